package client

import (
	"time"

	"google.golang.org/grpc/connectivity"
)

// The words of a [ConnectionExplained].
const (
	connectionIdle       = "idle"
	connectionConnecting = "connecting"
	connectionReady      = "ready"
	connectionFailed     = "failed"
	healthServing        = "serving"
	healthAsked          = "asked"
	healthNotServing     = "not_serving"
	healthSilent         = "silent"
)

// connection tells how an address can be reached.
func (d *directory) connection(now time.Time, addr string) ConnectionExplained {
	switch d.protocol {
	case "http":
		return d.service.httpView.connection(now, addr)
	case protocolNetRPC:
		return d.service.netrpcHome.connection(now, addr)
	}
	// A service has one connection for all its callers, and others where
	// somebody gave options: the best is what matters.
	best := ConnectionExplained{}
	d.service.petioles.Range(func(p, _ any) bool {
		if p, ok := p.(*petiole); ok {
			if c := p.explain(addr); c.rank() > best.rank() {
				best = c
			}
		}
		return true
	})
	return best
}

// explain tells of the connection to one address.
func (p *petiole) explain(addr string) ConnectionExplained {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.links[addr]
	if l == nil {
		return ConnectionExplained{State: connectionConnecting}
	}
	var c ConnectionExplained
	if n := p.view.byAddr[addr]; n != nil {
		n.rest.last.Load().explain(&c)
	}
	switch l.state {
	case connectivity.Ready:
		c.State = connectionReady
	case connectivity.Idle:
		c.State = connectionIdle
	case connectivity.TransientFailure:
		c.State = connectionFailed
	case connectivity.Connecting, connectivity.Shutdown:
		c.State = connectionConnecting
	}
	if l.failed && c.State != connectionReady {
		c.State = connectionFailed // until it has been connected to, whatever is being tried
	}
	if c.State == connectionReady {
		switch l.health {
		case connectivity.Ready:
			c.Health = healthServing
		case connectivity.TransientFailure:
			c.Health = healthNotServing
		default:
			c.Health = healthAsked
		}
	}
	switch {
	case l.err != nil:
		c.Error = l.err.Error()
	case c.State == connectionFailed && l.cause != nil: // it is being tried again
		c.Error = l.cause.Error()
	}
	return c
}

// connection tells of an address to which connections are made for calls.
func (l *listView) connection(now time.Time, addr string) ConnectionExplained {
	v := l.current.Load()
	if v == nil || v.byAddr[addr] == nil {
		return ConnectionExplained{}
	}
	r := v.byAddr[addr].rest
	c := ConnectionExplained{State: connectionReady, Failures: r.failures.Load()}
	if r.silent.Load() {
		c.Health = healthSilent
	}
	r.last.Load().explain(&c)
	if c.Failures > 0 {
		c.State = connectionFailed
		c.RetryS = max(seconds(time.Duration(r.until.Load())-now.Sub(r.made)), 0)
		if why := r.why.Load(); why != nil {
			c.Error = *why
		}
	}
	return c
}

// rank orders connections, the best one highest.
func (c *ConnectionExplained) rank() int {
	switch {
	case c.State == connectionReady && c.Health == healthServing:
		return 6
	case c.State == connectionReady && c.Health == healthAsked:
		return 5
	case c.State == connectionReady:
		return 4
	case c.State == connectionConnecting:
		return 3
	case c.State == connectionIdle:
		return 2
	case c.State == connectionFailed:
		return 1
	}
	return 0
}

// unusable tells whether an instance is known not to take calls. What is not
// known is held against nobody.
func (c *ConnectionExplained) unusable() bool {
	switch c.State {
	case connectionReady:
		return c.Health == healthAsked || c.Health == healthNotServing || c.Health == healthSilent
	case "":
		return false
	}
	return true
}
