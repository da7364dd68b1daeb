//go:build linux

package chaos_test

import (
	"net"
	"sync"
	"testing"
)

// proxy passes TCP connections on, and can become a black hole: connections
// stay open, new ones are taken, and nothing gets through.
type proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu      sync.Mutex
	ended   bool
	conns   []net.Conn
	gate    chan struct{} // closed while data may pass
	blocked bool
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, gate: make(chan struct{})}
	close(p.gate)
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(p.end)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) serve(from net.Conn) {
	defer from.Close()
	<-p.open()
	to, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer to.Close()
	p.mu.Lock()
	p.conns = append(p.conns, from, to)
	ended := p.ended
	p.mu.Unlock()
	if ended {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(to, from) })
	wg.Go(func() { p.pump(from, to) })
	wg.Wait()
}

// pump copies until either side is closed, and then closes both.
func (p *proxy) pump(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-p.open()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) open() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gate
}

func (p *proxy) block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate, p.blocked = make(chan struct{}), true
}

func (p *proxy) unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blocked {
		close(p.gate)
		p.blocked = false
	}
}

func (p *proxy) end() {
	_ = p.listener.Close()
	p.unblock()
	p.mu.Lock()
	p.ended = true
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}
