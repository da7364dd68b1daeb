package middleware

import (
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// forkedUnary is what a fork of a unary call has beside a call.
type forkedUnary struct {
	parent  *unaryClientCall
	reply   protoreflect.MessageType
	header  *metadata.MD // nil unless the caller wants it
	peer    *peer.Peer   // likewise
	outcome error
}

// wanted adds to the options of an attempt those for what the caller wants.
func (f *forkedUnary) wanted(opts []grpc.CallOption) []grpc.CallOption {
	opts = slices.Clip(opts)
	if f.header != nil {
		opts = append(opts, grpc.Header(f.header))
	}
	if f.peer != nil {
		opts = append(opts, grpc.Peer(f.peer))
	}
	return opts
}

func (c *unaryClientCall) fork() (*Call, bool) {
	forked := &forkedUnary{parent: c}
	if c.forked != nil {
		forked.reply = c.forked.reply
	} else {
		reply, ok := c.resp.(proto.Message)
		if !ok || !reply.ProtoReflect().IsValid() {
			return nil, false
		}
		forked.reply = reply.ProtoReflect().Type()
	}
	f := &unaryClientCall{info: c.info, req: c.req, cc: c.cc, invoke: c.invoke, reported: c.reported, forked: forked}
	for _, opt := range c.opts {
		// What grpc writes the outcome to is left out: two attempts would write
		// at the same time.
		switch opt.(type) {
		case grpc.HeaderCallOption:
			forked.header = new(metadata.MD)
		case grpc.PeerCallOption:
			forked.peer = new(peer.Peer)
		case grpc.TrailerCallOption, grpc.OnFinishCallOption:
		default:
			f.opts = append(f.opts, opt)
		}
	}
	if c.forked != nil && c.forked.header != nil {
		forked.header = new(metadata.MD)
	}
	if c.forked != nil && c.forked.peer != nil {
		forked.peer = new(peer.Peer)
	}
	f.Call = c.Call
	f.Attempts = 0
	f.transport = f
	f.caller = c.caller
	f.headers = slices.Clone(c.headers)
	return &f.Call, true
}

func (c *unaryClientCall) adopt(fork *Call) {
	f, ok := fork.transport.(*unaryClientCall)
	if !ok || f.forked == nil || f.forked.parent != c {
		return
	}
	c.adopted(fork)
	c.trailer, c.addr, c.asked = f.trailer, f.addr, f.asked
	if c.forked != nil { // a fork of a fork
		c.resp, c.forked.header, c.forked.peer, c.forked.outcome = f.resp, f.forked.header, f.forked.peer, f.forked.outcome
		return
	}
	if f.forked.outcome == nil {
		to, _ := c.resp.(proto.Message)
		if from, ok := f.resp.(proto.Message); ok {
			move(to.ProtoReflect(), from.ProtoReflect())
		}
	}
	for _, opt := range c.opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			*opt.HeaderAddr = *f.forked.header
		case grpc.TrailerCallOption:
			*opt.TrailerAddr = f.trailer
		case grpc.PeerCallOption:
			*opt.PeerAddr = *f.forked.peer
		case grpc.OnFinishCallOption:
			opt.OnFinish(f.forked.outcome)
		}
	}
}

// move replaces what is in a message by what is in another one of the same type
// that nobody will use again, so that nothing below the first level is copied.
func move(to, from protoreflect.Message) {
	proto.Reset(to.Interface())
	from.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		to.Set(field, value)
		return true
	})
	to.SetUnknown(from.GetUnknown())
}
