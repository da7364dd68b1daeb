package inprocess

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Conn returns a connection to the handlers, for the clients that are generated
// of their services. It has nothing to close.
//
// The outgoing metadata of a call's context is the handler's incoming metadata;
// a peer in the context is the handler's. Of the options of a call grpc.Header,
// grpc.Trailer and grpc.Peer are followed.
func (h *Handlers) Conn() *Conn { return &Conn{h} }

// Conn is a grpc.ClientConnInterface to the handlers of this process.
type Conn struct{ handlers *Handlers }

// Invoke calls a unary handler. The messages are those of protobuf. What the
// handler is given shares its parts with args, and reply with what the handler
// returns: neither is to be changed afterwards.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	s := &unaryStream{ctx: incoming(ctx), args: args, reply: reply}
	err := c.handlers.Serve(method, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, opt := range opts {
		switch o := opt.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = s.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = s.trailer
		case grpc.PeerCallOption:
			if p, ok := peer.FromContext(ctx); ok {
				*o.PeerAddr = *p
			}
		}
	}
	return err
}

// incoming turns a caller's context into a handler's. The caller's own outgoing
// metadata must not go on to whom the handler calls.
func incoming(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewIncomingContext(metadata.NewOutgoingContext(ctx, nil), md)
}

// replies is the metadata that a handler sets.
type replies struct {
	mu      sync.Mutex
	header  metadata.MD
	trailer metadata.MD
	sent    bool // the header is out
}

func (r *replies) SetHeader(md metadata.MD) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent {
		return status.Error(codes.Internal, "set header: the header was sent already")
	}
	r.header = metadata.Join(r.header, md)
	return nil
}

func (r *replies) SetTrailer(md metadata.MD) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trailer = metadata.Join(r.trailer, md)
}

func (r *replies) headerSent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = true
}

// unaryStream is the server's side of a unary call.
type unaryStream struct {
	replies

	ctx         context.Context
	args, reply any
}

func (s *unaryStream) Context() context.Context { return s.ctx }
func (s *unaryStream) RecvMsg(m any) error      { return share(m, s.args) }
func (s *unaryStream) SendMsg(m any) error      { return share(s.reply, m) }

func (s *unaryStream) SendHeader(md metadata.MD) error {
	if err := s.SetHeader(md); err != nil {
		return err
	}
	s.headerSent()
	return nil
}

// share makes dst what src is, in parts that both have then. Messages of one type
// are not copied deep: the one is read by its receiver only, the other belongs to
// nobody any more.
func share(dst, src any) error {
	to, from, err := messages(dst, src)
	if err != nil {
		return err
	}
	if to.Descriptor() != from.Descriptor() {
		return recode(to.Interface(), from.Interface())
	}
	proto.Reset(to.Interface())
	from.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		to.Set(fd, v)
		return true
	})
	if u := from.GetUnknown(); len(u) > 0 {
		to.SetUnknown(u)
	}
	return nil
}

func messages(dst, src any) (to, from protoreflect.Message, err error) {
	d, ok := dst.(proto.Message)
	s, also := src.(proto.Message)
	if !ok || !also || !d.ProtoReflect().IsValid() {
		return nil, nil, status.Errorf(codes.Internal, "pass a message in process: %T and %T are no messages of protobuf", dst, src)
	}
	return d.ProtoReflect(), s.ProtoReflect(), nil
}

// recode is for messages whose types were made apart.
func recode(to, from proto.Message) error {
	b, err := proto.Marshal(from)
	if err != nil {
		return status.Errorf(codes.Internal, "encode a %T: %v", from, err)
	}
	if err := proto.Unmarshal(b, to); err != nil {
		return status.Errorf(codes.Internal, "decode a %T: %v", to, err)
	}
	return nil
}
