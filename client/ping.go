package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"plinth.internal/internal/backoff"
)

// How long an instance may take to answer a ping, and the pauses between pings.
const (
	pingTimeout = time.Second
	pingBase    = 250 * time.Millisecond
	pingMax     = 5 * time.Second
)

// pinger asks an instance whether anybody is there. Whatever it answers will do.
type pinger interface {
	ping(ctx context.Context, n *node) error
}

// doubt keeps calls away from an instance that let one time out, until it answers
// a ping. A process that is stopped accepts connections and says nothing; over
// gRPC keepalive finds it out, and other transports have nothing like it. Calls
// would, one for each client every half a minute. One that is only slow answers
// within a round trip, and nothing has changed.
func (n *node) doubt(p pinger) {
	if n.rest.silent.Swap(true) {
		return
	}
	started := n.home.service.client.watch(func(ctx context.Context) {
		defer n.rest.silent.Store(false)
		n.await(ctx, p)
	})
	if !started {
		n.rest.silent.Store(false)
	}
}

// await pings an instance until it answers, cannot be connected to, which is
// another matter, or has left the list.
func (n *node) await(ctx context.Context, p pinger) {
	for i := 0; ; i++ {
		err := n.pinged(ctx, p)
		if err == nil || errors.Is(err, errDelisted) || ctx.Err() != nil {
			return
		}
		if _, ok := errors.AsType[*dialError](err); ok {
			return
		}
		if !wait(ctx, backoff.Around(backoff.Ceiling(pingBase, pingMax, i), 0.5)) {
			return
		}
	}
}

func (n *node) pinged(ctx context.Context, p pinger) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return p.ping(ctx, n)
}

// ping asks for what every HTTP server can tell, in RFC 9110 (9.3.7) the way to
// ping one. It makes a connection of its own: all others may be in use by requests
// that hang.
func (b *httpBase) ping(ctx context.Context, n *node) error {
	if n.pool.gone.Load() {
		return errDelisted
	}
	s := b.service
	t := newTransport(s.client.options.dial, 1)
	defer t.CloseIdleConnections()
	r := &http.Request{
		Method: http.MethodOptions, URL: &url.URL{Scheme: "http", Host: n.addr, Opaque: "*"},
		Host: s.name, Header: http.Header{}, Close: true,
	}
	resp, err := t.RoundTrip(r.WithContext(&attempt{Context: ctx, service: s})) // for the way it is dialled
	if err == nil {
		return resp.Body.Close()
	}
	if _, ok := errors.AsType[*dialError](err); ok && ctx.Err() == nil {
		n.rest.begin(time.Now(), err)
		n.unreachable(err)
	}
	return fmt.Errorf("ping instance %s of %q at %s: %w", n.id, s.name, n.addr, err)
}

// netRPCPing is a method that no server has: the answer is an error, and is there
// at once.
const netRPCPing = "PlinthPing.Ping"

func (b *netRPCBase) ping(ctx context.Context, n *node) error {
	conn, err := b.service.netrpcHome.enter(ctx, n, b.path)
	if err != nil {
		return err // which link.run has put down already
	}
	defer conn.leave()
	o := conn.call(ctx, netRPCPing, true, nil)
	if o.sent && !o.lost && ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("ping instance %s of %q at %s: %w", n.id, b.service.name, n.addr, o.err)
}
