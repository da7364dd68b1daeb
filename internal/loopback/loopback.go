// Package loopback gives tests addresses that stay theirs.
//
// A test that stops a server and starts it again on the same port may find that
// port taken: the kernel hands free ports out to everybody. On Linux the whole
// network 127.0.0.0/8 is loopback, so every call gets a host of its own there, on
// which nobody else listens.
package loopback

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

const port = 12379

// Addresses gives addresses out, up to 250 different ones; a process has one. The
// zero value is ready. All methods may be called concurrently.
type Addresses struct{ next atomic.Uint32 }

// Next is an address, host:port, that nobody listens on and that a gave to nobody
// before, nor any other process whose number differs in its last 15 bits. Where
// only 127.0.0.1 is loopback it is a port that is free at this moment. It errs
// where nobody can listen on loopback.
func (a *Addresses) Next() (string, error) {
	host := a.Host()
	ctx, lc := context.Background(), net.ListenConfig{} // listening waits for nothing
	l, err := lc.Listen(ctx, "tcp", fmt.Sprintf("%s:%d", host, port))
	if err != nil {
		if l, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return "", fmt.Errorf("find an address on loopback: %w", err)
		}
	}
	return l.Addr().String(), l.Close()
}

// Host is a host of its own on loopback, with all its ports. It is for Linux.
func (a *Addresses) Host() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 64+pid>>8%128, pid%256, a.next.Add(1)%250+1)
}
