package frameworktest

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// hasty times out once whatever its deadline is, as a timer does that fires late.
type hasty struct {
	net.Conn

	fired bool
}

func (c *hasty) Read(p []byte) (int, error) {
	if !c.fired {
		c.fired = true
		return 0, os.ErrDeadlineExceeded
	}
	return c.Conn.Read(p)
}

func TestPunctual(t *testing.T) {
	for _, deadline := range []time.Time{{}, time.Now().Add(time.Minute)} {
		near, far := net.Pipe()
		c := &punctual{Conn: &hasty{Conn: near}}
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = far.Write([]byte("x")) }()
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("deadline %v: %d, %v", deadline, n, err)
		}
		if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after its deadline: %v", err)
		}
		_, _ = near.Close(), far.Close()
	}
}
