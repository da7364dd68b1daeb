package middleware

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NetRPCInvoker makes a call over net/rpc: serviceMethod is "Service.Method",
// reply a pointer, or nil for a reply that nobody wants.
type NetRPCInvoker func(ctx context.Context, serviceMethod string, args, reply any) error

// NetRPCClient binds a chain to the net/rpc calls that a client makes to the
// service named target. A middleware may call next several times, each time is
// an attempt with the same arguments; and it may fork the call. declared tells
// which methods may be sent twice; nil means that nothing is known of any.
//
// Each attempt gets a reply of its own to decode into. The caller's is written
// once, when the call has gone well and before the invoker returns: it is
// replaced as a whole, not merged into, and never touched later. So invoke may
// return when its context ends and let the answer come whenever it comes.
//
// The protocol has no metadata: what middlewares set with [Call.SetHeader] is
// seen by the other middlewares of the call only, and [Call.Reply] is always "".
//
// A reply that is not a pointer, or a nil one, is INVALID_ARGUMENT; nothing is
// sent then.
func NetRPCClient(target string, invoke NetRPCInvoker, declared func(serviceMethod string) Idempotency, chain ...Middleware) NetRPCInvoker {
	handler := Chain(chain...)(end)
	return func(ctx context.Context, serviceMethod string, args, reply any) error {
		c := &netRPCClientCall{invoke: invoke, serviceMethod: serviceMethod, args: args}
		into := reflect.ValueOf(reply)
		if reply != nil {
			if into.Kind() != reflect.Pointer || into.IsNil() {
				return status.Errorf(codes.InvalidArgument, "call %s of %q: the reply is a %T, it must be a pointer that is not nil", serviceMethod, target, reply)
			}
			c.into = into.Type().Elem()
		}
		c.Kind = ClientNetRPC
		c.Target = target
		c.Service, c.Method = splitServiceMethod(serviceMethod)
		known := IdempotencyUnknown
		if declared != nil {
			known = declared(serviceMethod)
		}
		c.Idempotency = idempotency(ctx, known)
		c.Start = time.Now()
		c.transport = c
		if err := handler(ctx, &c.Call); err != nil {
			return err
		}
		if !c.answered {
			return errors.New("call net/rpc: a middleware answered without sending it")
		}
		if c.into != nil {
			into.Elem().Set(c.result.Elem())
		}
		return nil
	}
}

// splitServiceMethod splits as a net/rpc server does: at the last dot.
func splitServiceMethod(serviceMethod string) (service, method string) {
	if i := strings.LastIndexByte(serviceMethod, '.'); i >= 0 {
		return serviceMethod[:i], serviceMethod[i+1:]
	}
	return "", serviceMethod
}

type netRPCClientCall struct {
	Call

	invoke        NetRPCInvoker
	serviceMethod string
	args          any
	into          reflect.Type      // what the reply points to, nil for none
	headers       pairs             // keys in lower case; they go nowhere
	parent        *netRPCClientCall // of a fork

	answered bool          // the last attempt went well
	result   reflect.Value // its reply
}

func (c *netRPCClientCall) run(ctx context.Context) error {
	c.answered, c.result = false, reflect.Value{}
	var reply any
	var fresh reflect.Value
	if c.into != nil {
		fresh = reflect.New(c.into)
		reply = fresh.Interface()
	}
	err := c.invoke(ctx, c.serviceMethod, c.args, reply)
	if err == nil {
		c.answered, c.result = true, fresh
	}
	return err
}

func (c *netRPCClientCall) header(key string) string {
	v, _ := c.headers.get(strings.ToLower(key))
	return v
}

func (c *netRPCClientCall) setHeader(key, value string) {
	c.headers.setOrRemove(strings.ToLower(key), value)
}

func (c *netRPCClientCall) peer() string              { return "" }
func (c *netRPCClientCall) reply(string) string       { return "" }
func (c *netRPCClientCall) setReply(string, string)   {}
func (c *netRPCClientCall) setTrailer(string, string) {}
func (c *netRPCClientCall) beforeReply(func())        {}

func (c *netRPCClientCall) fork() (*Call, bool) {
	f := &netRPCClientCall{invoke: c.invoke, serviceMethod: c.serviceMethod, args: c.args, into: c.into, parent: c}
	f.Call = c.Call
	f.Attempts = 0
	f.transport = f
	f.headers = slices.Clone(c.headers)
	return &f.Call, true
}

func (c *netRPCClientCall) adopt(fork *Call) {
	f, ok := fork.transport.(*netRPCClientCall)
	if !ok || f.parent != c {
		return
	}
	c.adopted(fork)
	c.answered, c.result = f.answered, f.result
}
