//go:build linux

package chaos_test

import (
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// wire passes the TCP connections to one instance on, and can treat them as bad
// networks do: reset them, lose all that they carry, or delay what comes back.
type wire struct {
	listener net.Listener
	target   string
	delay    atomic.Pointer[func() time.Duration] // of what the instance sends; nil = none
	ended    chan struct{}
	wg       sync.WaitGroup

	mu    sync.Mutex
	pairs map[*pair]bool
}

// pair is one connection, both of its ends.
type pair struct {
	from, to net.Conn
	dead     atomic.Bool // nothing gets through any more
}

func startWire(t *testing.T, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", newHost()+":17000")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, target: target, ended: make(chan struct{}), pairs: map[*pair]bool{}}
	w.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.wg.Go(func() { w.serve(c) })
		}
	})
	t.Cleanup(func() {
		close(w.ended)
		_ = l.Close()
		w.reset()
		w.wg.Wait()
	})
	return w
}

func (w *wire) addr() string { return w.listener.Addr().String() }

func (w *wire) serve(from net.Conn) {
	to, err := net.Dial("tcp", w.target)
	if err != nil {
		hardClose(from)
		return
	}
	p := &pair{from: from, to: to}
	w.mu.Lock()
	w.pairs[p] = true
	w.mu.Unlock()
	select {
	case <-w.ended:
		p.reset()
	default:
	}
	var both sync.WaitGroup
	both.Go(func() { w.forward(p) })
	both.Go(func() { w.back(p) })
	both.Wait()
	p.reset()
	w.mu.Lock()
	delete(w.pairs, p)
	w.mu.Unlock()
}

// forward carries what the client sends.
func (w *wire) forward(p *pair) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := p.from.Read(buffer)
		if err != nil {
			p.end()
			return
		}
		if p.dead.Load() {
			continue
		}
		if _, err := p.to.Write(buffer[:n]); err != nil {
			p.end()
			return
		}
	}
}

// back carries what the instance sends, in order, after a delay if there is one.
func (w *wire) back(p *pair) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	queue := make(chan chunk, 1024)
	var writer sync.WaitGroup
	writer.Go(func() {
		for c := range queue {
			<-time.After(time.Until(c.due))
			if p.dead.Load() {
				continue
			}
			if _, err := p.from.Write(c.data); err != nil {
				p.end()
			}
		}
		p.end()
	})
	defer writer.Wait()
	defer close(queue)
	var last time.Time
	buffer := make([]byte, 32<<10)
	for {
		n, err := p.to.Read(buffer)
		if err != nil {
			return
		}
		due := time.Now()
		if delay := w.delay.Load(); delay != nil {
			due = due.Add((*delay)())
		}
		if due.Before(last) {
			due = last
		}
		last = due
		queue <- chunk{append([]byte(nil), buffer[:n]...), due}
	}
}

// end lets the other end know that one has gone, unless nothing gets through.
func (p *pair) end() {
	if !p.dead.Load() {
		_ = p.from.Close()
	}
	_ = p.to.Close()
}

// reset ends both connections with an RST.
func (p *pair) reset() {
	hardClose(p.from)
	hardClose(p.to)
}

func hardClose(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// reset ends all connections with an RST.
func (w *wire) reset() { resetAll(w) }

// resetAll does so on several wires, on all connections within a millisecond or
// two and before anybody can have connected again.
func resetAll(wires ...*wire) {
	var pairs []*pair
	for _, w := range wires {
		w.mu.Lock()
		pairs = slices.AppendSeq(pairs, maps.Keys(w.pairs))
		w.mu.Unlock()
	}
	for _, p := range pairs {
		disconnect(p.from)
	}
	for _, p := range pairs {
		p.reset()
	}
}

// disconnect sends an RST at once. Closing does so too, but only once the
// goroutine that reads has let go of the connection: with hundreds of them some
// would die long after the others.
func disconnect(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return // it is closed already
	}
	_ = raw.Control(func(fd uintptr) {
		// connect(2): "by connecting to an address with the sa_family member of
		// sockaddr set to AF_UNSPEC", a socket dissolves its association.
		nowhere := syscall.RawSockaddr{Family: syscall.AF_UNSPEC}
		_, _, _ = syscall.Syscall(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&nowhere)), unsafe.Sizeof(nowhere))
	})
}

// lose lets nothing through any more on one of the connections, and returns the
// address of its client's end.
func (w *wire) lose() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.pairs {
		if !p.dead.Swap(true) {
			return p.from.RemoteAddr().String()
		}
	}
	return ""
}
