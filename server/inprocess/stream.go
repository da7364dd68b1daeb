package inprocess

import (
	"context"
	"errors"
	"io"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"plinth.internal/middleware"
)

type groupKey struct{}

// Wait returns a context, and a function that waits until the handlers of all
// streams that were begun with it have returned. The caller ends the context
// before it waits.
func Wait(ctx context.Context) (_ context.Context, wait func()) {
	g := new(sync.WaitGroup)
	return context.WithValue(ctx, groupKey{}, g), g.Wait
}

// NewStream begins a stream; its handler runs until it returns, at the latest
// when it has followed the end of ctx.
func (c *Conn) NewStream(ctx context.Context, _ *grpc.StreamDesc, fullMethod string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if !c.handlers.Has(fullMethod) {
		return nil, status.Errorf(codes.Unimplemented, "unknown method %s", fullMethod)
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &pipe{
		ctx: incoming(ctx), up: make(chan proto.Message), down: make(chan proto.Message),
		closed: make(chan struct{}), begun: make(chan struct{}), done: make(chan struct{}),
	}
	run := func() {
		defer cancel()
		p.serve(c.handlers, fullMethod)
	}
	if g, ok := ctx.Value(groupKey{}).(*sync.WaitGroup); ok {
		g.Go(run)
	} else {
		go run()
	}
	return &clientStream{pipe: p, ctx: ctx, opts: opts}, nil
}

// pipe joins the two sides of a stream.
type pipe struct {
	replies

	ctx      context.Context    // the handler's
	up, down chan proto.Message // to the handler, and from it
	closed   chan struct{}      // nothing comes up any more
	begun    chan struct{}      // the header is out
	done     chan struct{}      // the handler has returned, with err

	closeOnce, beginOnce sync.Once
	err                  error // once done is closed
}

// serve runs the handler. Nobody else could recover what it panics with, or tell
// that it ended its goroutine.
func (p *pipe) serve(h *Handlers, fullMethod string) {
	returned := false
	defer func() {
		if !returned {
			p.err = &middleware.PanicError{Value: recover(), Stack: debug.Stack()}
		}
		close(p.done)
	}()
	p.err = h.Serve(fullMethod, p)
	returned = true
}

func (p *pipe) begin() {
	p.headerSent()
	p.beginOnce.Do(func() { close(p.begun) })
}

// Context is the handler's.
func (p *pipe) Context() context.Context { return p.ctx }

// SendHeader lets the caller have the header.
func (p *pipe) SendHeader(md metadata.MD) error {
	if err := p.SetHeader(md); err != nil {
		return err
	}
	p.begin()
	return nil
}

// SendMsg is the handler's. The message is copied: the handler may use it again.
func (p *pipe) SendMsg(m any) error {
	msg, ok := m.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "send a message in process: %T is no message of protobuf", m)
	}
	p.begin()
	select {
	case p.down <- proto.Clone(msg):
		return nil
	case <-p.ctx.Done():
		return middleware.Status(p.ctx.Err()).Err()
	}
}

// RecvMsg is the handler's.
func (p *pipe) RecvMsg(m any) error {
	select {
	case msg := <-p.up:
		return share(m, msg)
	case <-p.closed:
		return io.EOF
	case <-p.ctx.Done():
		return middleware.Status(p.ctx.Err()).Err()
	}
}

// clientStream is the caller's side.
type clientStream struct {
	pipe *pipe
	ctx  context.Context
	opts []grpc.CallOption
}

func (s *clientStream) Context() context.Context { return s.ctx }

// Header waits until the handler has sent the header or something else. A
// handler that ended with an error before tells it here.
func (s *clientStream) Header() (metadata.MD, error) {
	p := s.pipe
	select {
	case <-p.begun:
	case <-p.done:
		select {
		case <-p.begun:
		default:
			if p.err != nil {
				return nil, p.err
			}
		}
	case <-s.ctx.Done():
		return nil, s.ended()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.header, nil
}

// Trailer is complete once RecvMsg has returned an error.
func (s *clientStream) Trailer() metadata.MD {
	s.pipe.mu.Lock()
	defer s.pipe.mu.Unlock()
	return s.pipe.trailer
}

func (s *clientStream) CloseSend() error {
	s.pipe.closeOnce.Do(func() { close(s.pipe.closed) })
	return nil
}

// SendMsg gives the handler a copy. As over gRPC, it returns io.EOF once the
// handler has returned; RecvMsg tells with what.
func (s *clientStream) SendMsg(m any) error {
	msg, ok := m.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "send a message in process: %T is no message of protobuf", m)
	}
	select {
	case s.pipe.up <- proto.Clone(msg):
		return nil
	case <-s.pipe.done:
		return io.EOF
	case <-s.ctx.Done():
		return io.EOF
	}
}

func (s *clientStream) RecvMsg(m any) error {
	select {
	case msg := <-s.pipe.down:
		return share(m, msg)
	case <-s.pipe.done:
		return s.over(s.pipe.err)
	case <-s.ctx.Done():
		return s.over(s.ended())
	}
}

// ended is why there is nothing more while the context is over: the handler's
// own error if it has returned by then.
func (s *clientStream) ended() error {
	select {
	case <-s.pipe.done:
		if s.pipe.err != nil {
			return s.pipe.err
		}
		return io.EOF
	default:
		return middleware.Status(context.Cause(s.ctx)).Err()
	}
}

// over serves the options of the call at its end.
func (s *clientStream) over(err error) error {
	s.pipe.mu.Lock()
	defer s.pipe.mu.Unlock()
	for _, opt := range s.opts {
		switch o := opt.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = s.pipe.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = s.pipe.trailer
		}
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.EOF
	}
	return err
}
