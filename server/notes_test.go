package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
	"plinth.internal/middleware/recovery"
	"plinth.internal/server/gateway/testdata/restv1"
)

// notes is a service that does what the ID of a request tells it to.
type notes struct {
	restv1.UnimplementedNotesServer

	running atomic.Int64
}

func (n *notes) Get(ctx context.Context, r *restv1.GetRequest) (*restv1.Note, error) {
	switch r.GetId() {
	case "missing":
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "t"))
		s, _ := status.New(codes.AlreadyExists, "there is one").WithDetails(&errdetails.ErrorInfo{Reason: "TAKEN", Domain: "test"})
		return nil, s.Err()
	case "panic":
		panic("secret")
	case "deadline":
		<-ctx.Done()
		return nil, ctx.Err()
	case "peer":
		p, _ := peer.FromContext(ctx)
		tls := "plain"
		if p.AuthInfo != nil {
			tls = p.AuthInfo.AuthType()
		}
		return &restv1.Note{Text: p.Addr.String() + " " + tls}, nil
	case "metadata":
		in, _ := metadata.FromIncomingContext(ctx)
		out, _ := metadata.FromOutgoingContext(ctx)
		method, _ := grpc.Method(ctx)
		return &restv1.Note{Text: fmt.Sprintf("%s x-color=%v raw-bin=%q authorization=%v out=%d",
			method, in["x-color"], in["raw-bin"], in["authorization"], len(out))}, nil
	}
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-header", "h", "raw-bin", "\x00\xff"))
	return &restv1.Note{Id: r.GetId(), Text: r.GetBook(), Count: r.GetCount()}, nil
}

func (n *notes) Put(_ context.Context, r *restv1.Note) (*restv1.Note, error) { return r, nil }

func (n *notes) Plain(context.Context, *restv1.GetRequest) (*restv1.Note, error) {
	return &restv1.Note{Text: "plain"}, nil
}

func (n *notes) List(r *restv1.GetRequest, stream grpc.ServerStreamingServer[restv1.Note]) error {
	n.running.Add(1)
	defer n.running.Add(-1)
	switch r.GetId() {
	case "missing":
		return status.Error(codes.NotFound, "no notes")
	case "panic":
		panic("secret")
	case "endless":
		for i := int64(0); ; i++ {
			if err := stream.Send(&restv1.Note{Count: i, Text: strings.Repeat("x", 1000)}); err != nil {
				return err
			}
		}
	}
	_ = stream.SetHeader(metadata.Pairs("x-header", "h"))
	stream.SetTrailer(metadata.Pairs("x-trailer", "t"))
	note := &restv1.Note{}
	for i := range int64(3) {
		note.Count = i // used again, as a handler may
		if err := stream.Send(note); err != nil {
			return err
		}
	}
	if r.GetId() == "broken" {
		return status.Error(codes.DataLoss, "the rest is gone")
	}
	return nil
}

func (n *notes) Add(stream grpc.ClientStreamingServer[restv1.Note, restv1.Note]) error {
	n.running.Add(1)
	defer n.running.Add(-1)
	var sum int64
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&restv1.Note{Count: sum})
		}
		if err != nil {
			return err
		}
		sum += in.GetCount()
	}
}

func (n *notes) Chat(stream grpc.BidiStreamingServer[restv1.Note, restv1.Note]) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(in); err != nil {
			return err
		}
	}
}

// seen remembers the calls that a chain has had.
type seen struct {
	mu    sync.Mutex
	calls []string
	stack []byte
	panic any
}

func (s *seen) middleware(next middleware.Handler) middleware.Handler {
	return func(ctx context.Context, call *middleware.Call) error {
		if call.Header("x-refuse") != "" {
			return status.Error(codes.Unauthenticated, "who are you?")
		}
		err := next(ctx, call)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls = append(s.calls, fmt.Sprint(call.Kind, " ", call.FullMethod(), " ", middleware.CodeName(middleware.Code(err))))
		return err
	}
}

func (s *seen) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.calls
	s.calls = nil
	return out
}

func (s *seen) chain() []middleware.Middleware {
	return []middleware.Middleware{s.middleware, recovery.New(func(_ context.Context, _ *middleware.Call, value any, stack []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.panic, s.stack = value, stack
	}), deadline.Server()}
}
