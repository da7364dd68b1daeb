package middleware

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// withStatus gives an error that has no status one, and leaves others as they
// are: callers may want to know their type.
func withStatus(err error) error {
	if s, ok := status.FromError(err); err == nil || ok && s.Code() != codes.OK {
		return err
	}
	return Status(err).Err()
}

// StreamClient binds a chain to the streams that a client opens to the service
// named target. The chain runs in a goroutine of its own, which ends when grpc
// reports the stream's end: at the error or the last response that RecvMsg
// returns, or when the context or the connection ends. A stream that is
// abandoned without any of these leaks in grpc as well. A panic of a middleware ends
// the process there, unless one around it recovers.
func StreamClient(target string, chain ...Middleware) grpc.StreamClientInterceptor {
	return WatchedStreamClient(target, nil, chain...)
}

// Watch wraps a stream that was opened with ctx, which is the context that the
// innermost middleware has opened it with.
type Watch func(ctx context.Context, s grpc.ClientStream) grpc.ClientStream

// WatchedStreamClient is [StreamClient] for those who want to know what comes on the
// streams before their end: the caller gets what watch returns. Nil is
// [StreamClient].
func WatchedStreamClient(target string, watch Watch, chain ...Middleware) grpc.StreamClientInterceptor {
	handler := Chain(chain...)(end)
	methods := new(methodTable)
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, fullMethod string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		opened := make(chan grpc.ClientStream, 1)
		c := &streamClientCall{fullMethod: fullMethod, desc: desc, cc: cc, open: open, opts: opts, opened: opened, watch: watch}
		c.init(ctx, ClientStream, target, methods.get(fullMethod), c)
		ended := start(ctx, handler, &c.Call)
		select {
		case s := <-opened:
			return s, nil
		case err := <-ended:
			select {
			case s := <-opened: // it was opened and ended at once; it tells its outcome itself
				return s, nil
			default:
			}
			if err == nil {
				err = errors.New("open stream: a middleware answered without opening it")
			}
			return nil, withStatus(err)
		}
	}
}

// errExited is the outcome of a chain whose goroutine was ended from inside.
var errExited = errors.New("run middlewares: one of them ended its goroutine (runtime.Goexit)")

// start runs a chain in a goroutine of its own. The channel receives its
// outcome, also where the goroutine is ended from inside, as a test's Fatal
// does, so that nobody waits for ever.
func start(ctx context.Context, handler Handler, call *Call) <-chan error {
	ended := make(chan error, 1)
	go func() {
		err := errExited
		defer func() { ended <- err }()
		err = handler(ctx, call)
	}()
	return ended
}

// grpcClientCall is what unary calls and streams share on a client.
type grpcClientCall struct {
	Call

	caller  context.Context // carries the metadata that the caller has set
	headers pairs           // keys in lower case
	space   [4]string       // of the first headers
}

func (c *grpcClientCall) init(ctx context.Context, kind Kind, target string, m *methodInfo, t transport) {
	c.Kind = kind
	c.Target = target
	c.Service, c.Method, c.full = m.service, m.method, m.full
	c.headers = c.space[:0]
	c.Idempotency = idempotency(ctx, m.idempotency)
	c.Start = time.Now()
	c.transport = t
	c.caller = ctx
}

func (c *grpcClientCall) header(key string) string {
	key = strings.ToLower(key)
	if v, ok := c.headers.get(key); ok {
		return v
	}
	if md, ok := metadata.FromOutgoingContext(c.caller); ok {
		if v := md.Get(key); len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

func (c *grpcClientCall) setHeader(key, value string) {
	c.headers.setOrRemove(strings.ToLower(key), value)
}

func (c *grpcClientCall) setReply(string, string)   {}
func (c *grpcClientCall) setTrailer(string, string) {}
func (c *grpcClientCall) beforeReply(func())        {}
func (c *grpcClientCall) fork() (*Call, bool)       { return nil, false }
func (c *grpcClientCall) adopt(*Call)               {}

// outgoing adds the headers to the metadata in ctx, in place of those that the
// caller has set under the same keys: a server would read the first of two.
func (c *grpcClientCall) outgoing(ctx context.Context) context.Context {
	if len(c.headers) == 0 {
		return ctx
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		replaced := false
		for i := 0; i < len(c.headers); i += 2 {
			if len(md[c.headers[i]]) > 0 {
				delete(md, c.headers[i])
				replaced = true
			}
		}
		if replaced {
			ctx = metadata.NewOutgoingContext(ctx, md)
		}
	}
	return metadata.AppendToOutgoingContext(ctx, c.headers...)
}

type streamClientCall struct {
	grpcClientCall

	fullMethod string
	desc       *grpc.StreamDesc
	cc         *grpc.ClientConn
	open       grpc.Streamer
	opts       []grpc.CallOption
	opened     chan<- grpc.ClientStream // nil once the stream was handed over
	watch      Watch                    // nil for none
	peerInfo   peer.Peer
}

func (c *streamClientCall) peer() string        { return addrString(c.peerInfo.Addr) }
func (c *streamClientCall) reply(string) string { return "" }

// run opens the stream, hands it over and waits for its end. A middleware that
// calls it again after the stream was handed over would replay messages that
// nobody kept, so it opens nothing then.
func (c *streamClientCall) run(ctx context.Context) error {
	if c.opened == nil {
		return errors.New("open stream: it was opened before and is never replayed")
	}
	finished := make(chan error, 1)
	n := len(c.opts)
	opts := append(c.opts[:n:n], grpc.Peer(&c.peerInfo), grpc.OnFinish(func(err error) {
		select {
		case finished <- err:
		default:
		}
	}))
	cs, err := c.open(c.outgoing(ctx), c.desc, c.cc, c.fullMethod, opts...)
	if err != nil {
		return err
	}
	if c.watch != nil {
		cs = c.watch(ctx, cs)
	}
	c.opened <- cs
	c.opened = nil
	return <-finished
}

// methodInfo is what is known of a method before it is called.
type methodInfo struct {
	fullMethod            string // as grpc has it
	service, method, full string
	idempotency           Idempotency
}

// methodTable remembers methods; it is read without a lock and grows once a
// method, up to a bound that only a proxy for foreign methods reaches.
type methodTable struct {
	known atomic.Pointer[map[string]*methodInfo]
	mu    sync.Mutex // serialises writers
}

const maxKnownMethods = 1000

func (t *methodTable) get(fullMethod string) *methodInfo {
	if known := t.known.Load(); known != nil {
		if m, ok := (*known)[fullMethod]; ok {
			return m
		}
	}
	m := &methodInfo{fullMethod: fullMethod}
	m.service, m.method = SplitMethod(fullMethod)
	m.full = strings.TrimPrefix(fullMethod, "/")
	m.idempotency = declaredIdempotency(m.service, m.method)

	t.mu.Lock()
	defer t.mu.Unlock()
	next := map[string]*methodInfo{}
	if known := t.known.Load(); known != nil {
		if len(*known) >= maxKnownMethods {
			return m
		}
		maps.Copy(next, *known)
	}
	next[fullMethod] = m
	t.known.Store(&next)
	return m
}

// declaredIdempotency reads the proto's idempotency_level option from the
// descriptors that are linked into the binary with the generated code.
func declaredIdempotency(service, method string) Idempotency {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		return IdempotencyUnknown
	}
	opts, ok := d.Options().(*descriptorpb.MethodOptions)
	if !ok {
		return IdempotencyUnknown
	}
	switch opts.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		return NoSideEffects
	case descriptorpb.MethodOptions_IDEMPOTENT:
		return Idempotent
	}
	return IdempotencyUnknown
}
