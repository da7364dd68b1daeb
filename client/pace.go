package client

import (
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/balancer"
)

// reconnectSpread is how long after a failed attempt to reach an instance the next
// one is made. The first interval is a random part of it, and so each client keeps
// a moment of its own: a thousand clients make 140 attempts a second, while the
// instance is down as when it is back. Random intervals throughout would have half
// that mean, and twice as many attempts.
const reconnectSpread = 7 * time.Second

// paced is the connection to one instance as the child sees it that holds it. It
// lets a connection wait that is not urgent: to an instance that could not be
// reached, while others can be called. The first attempt after a connection was
// lost is made at once, and so is every one while nobody can be called.
type paced struct {
	balancer.SubConn

	petiole *petiole
	link    *link
}

// Connect is called by the child, when it wants the connection.
func (c *paced) Connect() {
	p := c.petiole
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.link.failed || p.callable == 0 || p.ctx.Err() != nil {
		c.SubConn.Connect() // which returns at once
		return
	}
	if p.waiting[c] == nil {
		p.waiting[c] = time.AfterFunc(c.link.wait(time.Now()), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.goLocked(c)
		})
	}
}

// wait gives how long the next attempt to reach a failed instance has to wait, and
// counts it as made.
func (l *link) wait(now time.Time) time.Duration {
	if l.next.IsZero() {
		l.next = now.Add(rand.N(reconnectSpread))
	} else {
		l.next = l.next.Add(reconnectSpread)
	}
	if late := now.Sub(l.next); late > 0 { // attempts were made for other reasons
		l.next = l.next.Add(late.Truncate(reconnectSpread) + reconnectSpread)
	}
	return l.next.Sub(now)
}

// Shutdown is called by the child, when the instance has left the list.
func (c *paced) Shutdown() {
	p := c.petiole
	p.mu.Lock()
	if timer := p.waiting[c]; timer != nil {
		timer.Stop()
		delete(p.waiting, c)
	}
	p.mu.Unlock()
	c.SubConn.Shutdown()
}

// goLocked ends the wait of a connection, if it still waits.
func (p *petiole) goLocked(c *paced) {
	if timer := p.waiting[c]; timer != nil {
		timer.Stop()
		delete(p.waiting, c)
		c.SubConn.Connect()
	}
}

// callableLocked notes how many instances can be called. Without any, nobody
// waits.
func (p *petiole) callableLocked(n int) {
	p.callable = n
	if n == 0 {
		for c := range p.waiting {
			p.goLocked(c)
		}
	}
}

// bare takes the pacing off what a child's picker has picked: grpc knows its own
// connections only.
func bare(result balancer.PickResult) balancer.PickResult {
	if c, ok := result.SubConn.(*paced); ok {
		result.SubConn = c.SubConn
	}
	return result
}
