package frameworktest

import (
	"errors"
	"net"
	"sync"
	"time"
)

// punctual is a connection whose reads time out at their deadline and not before. A
// timer of one in memory may fire after its deadline was moved or taken away, and an
// http.Server takes that for the end of the connection: the context of each later
// request on it is cancelled.
type punctual struct {
	net.Conn

	mu  sync.Mutex
	due time.Time // for reads; zero = none
}

func (c *punctual) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = t
	return c.Conn.SetReadDeadline(t)
}

func (c *punctual) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *punctual) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if timeout, ok := errors.AsType[net.Error](err); !ok || n > 0 || !timeout.Timeout() || !c.early() {
			return n, err
		}
	}
}

// early tells whether there is time left to read, and sets the deadline anew then.
func (c *punctual) early() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.due.IsZero() && !time.Now().Before(c.due) {
		return false
	}
	return c.Conn.SetReadDeadline(c.due) == nil
}
