package client

import (
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
)

// protocolNetRPC is the endpoint of an instance that net/rpc calls go to.
const protocolNetRPC = "netrpc"

// NetRPC calls a service whose instances are servers of the standard library's
// net/rpc, as they are: nothing has to change on their side. [Client.NetRPC]
// makes it; all methods may be called concurrently.
type NetRPC struct{ invoke middleware.NetRPCInvoker }

// NetRPC returns a caller for a service that speaks net/rpc, gob-encoded, over
// TCP (rpc.Accept, rpc.ServeConn) or after an HTTP CONNECT (rpc.HandleHTTP, see
// [WithRPCPath]). It takes the place of an rpc.Client and of the code around one
// that dials, redials and chooses an address; it does not wait, and there is
// nothing to close: the client closes all connections.
//
// The instances are those with an endpoint "netrpc", in a static list
// "netrpc=10.0.0.1:1234". There is no other endpoint to fall back on: a port
// that speaks something else would take the calls for garbage.
//
// The calls run through the same chain as others, with the net/rpc method as
// method ("Say"), and the same rules hold but for what the protocol lacks:
//   - It has no metadata. A trace ends here (the client's span is the last one),
//     the server does not know the deadline, says nothing of its load and cannot
//     hand a call back.
//   - It declares no idempotency. A call that may have reached an instance is
//     repeated only if [WithIdempotentMethods] or [middleware.WithIdempotency]
//     says so.
//   - It has no codes. What the method returns is UNKNOWN, as a plain error is
//     over gRPC: it counts as a failure of the instance, for ejection and breaker.
//     [WithServerErrorCode] tells errors that are none. A service or method that
//     the server does not have is UNIMPLEMENTED. Arguments or a reply that gob
//     cannot bring over, be it that a GobEncode or GobDecode panics, are
//     INVALID_ARGUMENT.
//   - It cannot cancel. When the context ends first the call returns at once, and
//     its answer is dropped when it comes. A connection that owes answers and is
//     silent for a second when that happens, or owes 100 such answers, gets no
//     more calls; the next one makes a new connection.
//
// There is one connection to each instance, made with the first call, kept while
// the instance is listed, and made again when it breaks. As with any net/rpc
// client a huge reply holds up the others of its connection.
//
// It is an error if the name is not a service name, an option is not valid, or
// the client is closed.
func (c *Client) NetRPC(service string, opts ...NetRPCOption) (*NetRPC, error) {
	o, err := newNetRPCOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("call service %q over net/rpc: %w", service, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.serviceLocked(service)
	if err != nil {
		return nil, fmt.Errorf("call service %q over net/rpc: %w", service, err)
	}
	base := &netRPCBase{service: s, path: o.path, code: o.code}
	return &NetRPC{invoke: middleware.NetRPCClient(s.name, base.invoke, o.idempotency, s.chain(o.middleware)...)}, nil
}

// Call calls "Service.Method" and waits for the reply, at the longest until ctx
// ends or the timeout of [Settings] is over. reply is a pointer; it is replaced
// as a whole if all went well, and untouched otherwise, also after Call has
// returned. A nil reply drops what is answered. args are not kept.
//
// What the method returned as its error is an [rpc.ServerError], to be had with
// errors.As; its text is unchanged. middleware.Code tells the code of any error.
func (n *NetRPC) Call(ctx context.Context, serviceMethod string, args, reply any) error {
	return n.invoke(ctx, serviceMethod, args, reply)
}

// netRPCBase sends one attempt to an instance that it picks.
type netRPCBase struct {
	service *service
	path    string // for CONNECT, "" for plain TCP
	code    func(serviceMethod string, err rpc.ServerError) codes.Code
}

func (b *netRPCBase) invoke(ctx context.Context, serviceMethod string, args, reply any) error {
	s := b.service
	a := attemptOf(ctx)
	v, err := s.netrpcHome.nodes(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	a.pinger = b
	n, err := pickRested(now, a, v)
	if err != nil {
		return err
	}
	a.choose(n)
	a.begin(now, n)
	conn, err := s.netrpcHome.enter(ctx, n, b.path)
	if err != nil {
		a.sent.Store(false)
		return b.unsent(ctx, a, v, n, err)
	}
	defer conn.leave()
	judged := false
	defer func() {
		if !judged { // gob did not want the arguments, or the caller's own code panics
			a.forget(n)
		}
	}()
	outcome := conn.call(ctx, serviceMethod, args, reply)
	a.sent.Store(outcome.sent)
	err = b.outcome(ctx, n, serviceMethod, outcome)
	if outcome.sent || outcome.lost {
		judged = true
		a.end(n, err)
	}
	return err
}

// unsent is the error of an attempt that got no connection.
func (b *netRPCBase) unsent(ctx context.Context, a *attempt, v *view, n *node, err error) error {
	_, dialled := errors.AsType[*dialError](err)
	if dialled && ctx.Err() == nil {
		v.drop(n, err)
	}
	switch {
	case errors.Is(err, ErrClosed):
		a.forget(n)
		return err
	case ctx.Err() != nil:
		err = b.ended(ctx, n)
	default:
		err = &unreachableError{service: b.service.name, instance: n.id, addr: n.addr, err: err}
	}
	if dialled || ctx.Err() != nil {
		a.end(n, err)
	} else {
		a.forget(n) // it has just left the list
	}
	return err
}

func (b *netRPCBase) ended(ctx context.Context, n *node) error {
	return fmt.Errorf("call instance %s of %q at %s: %w", n.id, b.service.name, n.addr, ctx.Err())
}

// outcome is the error of an attempt that had a connection.
func (b *netRPCBase) outcome(ctx context.Context, n *node, serviceMethod string, o netRPCOutcome) error {
	switch {
	case o.err == nil:
		return nil
	case o.lost && errors.Is(o.err, ErrClosed):
		return b.service.closed()
	case o.lost:
		return &unreachableError{service: b.service.name, instance: n.id, addr: n.addr, err: o.err}
	}
	if answer, ok := errors.AsType[rpc.ServerError](o.err); ok {
		if code := b.codeOf(serviceMethod, answer); code != codes.Unknown {
			return &codedError{answer, code}
		}
		return answer
	}
	if wrong, ok := errors.AsType[*gobError](o.err); ok {
		return &codedError{fmt.Errorf("call %s of %q: %w", serviceMethod, b.service.name, wrong), codes.InvalidArgument}
	}
	return b.ended(ctx, n)
}

// codeOf is the code of what a server answered.
func (b *netRPCBase) codeOf(serviceMethod string, err rpc.ServerError) codes.Code {
	if about, ok := strings.CutSuffix(string(err), serviceMethod); ok {
		switch about { // as package net/rpc has them
		case "rpc: can't find service ", "rpc: can't find method ", "rpc: service/method request ill-formed: ":
			return codes.Unimplemented
		}
	}
	if b.code == nil {
		return codes.Unknown
	}
	if code := b.code(serviceMethod, err); code != codes.OK { // an error must not get lost
		return code
	}
	return codes.Unknown
}
