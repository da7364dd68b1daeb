package server

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

func TestSamePort(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{":9000", ":9000", true},
		{":9000", "0.0.0.0:9000", true},
		{":9000", "[::]:9000", true},
		{"LocalHost:9000", "localhost:9000", true},
		{"[::ffff:127.0.0.1]:9000", "127.0.0.1:9000", true},
		{":9000", ":9001", false},
		{":9000", "127.0.0.1:9000", false},
		{":0", ":0", false},
		{":00", ":00", false},
		{"", "", false},
		{":", ":", false},
		{"x", "x", false},
	} {
		if got := samePort(tc.a, tc.b); got != tc.want {
			t.Errorf("%q and %q: %v", tc.a, tc.b, got)
		}
	}
}

func TestIsGRPC(t *testing.T) {
	for kind, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc;charset=x": true,
		"application/grpc-web": false, "application/grpcx": false, "application/json": false, "": false,
	} {
		if got := isGRPC(kind); got != want {
			t.Errorf("%q: %v", kind, got)
		}
	}
}

var settingsAck = []byte{0, 0, 0, 4, 1, 0, 0, 0, 0}

// withoutAck is what the filter is to make of a stream, written down in another
// way.
func withoutAck(in []byte) []byte {
	at := len(http2.ClientPreface)
	for at+frameHeaderLen <= len(in) {
		head := in[at : at+frameHeaderLen]
		n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if n == 0 && head[3] == 4 && head[4]&1 == 1 {
			return append(bytes.Clone(in[:at]), in[at+frameHeaderLen:]...)
		}
		at += frameHeaderLen + n
	}
	return in
}

func filtered(from io.Reader) ([]byte, error) {
	f := &ackFilter{skip: len(http2.ClientPreface)}
	return io.ReadAll(readerFunc(func(b []byte) (int, error) { return f.read(from.Read, b) }))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// FuzzAckFilter: whatever a client sends, and in whatever pieces it comes, one
// acknowledgement is taken out and nothing else.
func FuzzAckFilter(f *testing.F) {
	preface := []byte(http2.ClientPreface)
	f.Add(append(bytes.Clone(preface), settingsAck...))
	f.Add(append(append(append(bytes.Clone(preface), 0, 0, 2, 0, 0, 0, 0, 0, 1, 'a', 'b'), settingsAck...), settingsAck...))
	f.Add(append(bytes.Clone(preface), 0, 0, 0, 4, 1, 0))
	f.Add([]byte("PRI"))
	f.Fuzz(func(t *testing.T, in []byte) {
		want := withoutAck(in)
		for _, from := range []io.Reader{bytes.NewReader(in), iotest.OneByteReader(bytes.NewReader(in)), iotest.HalfReader(bytes.NewReader(in)), iotest.DataErrReader(bytes.NewReader(in))} {
			got, err := filtered(from)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%q becomes %q, %v; want %q", in, got, err, want)
			}
		}
	})
}

// FuzzSniff: whatever a client begins with, it is sent to one of the servers with
// every byte that it has sent, or let go.
func FuzzSniff(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	f.Add(append([]byte(http2.ClientPreface), 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82))
	f.Add(append([]byte(http2.ClientPreface), 0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &sniffer{conn: &scripted{in: bytes.NewReader(in)}}
		side, err := s.find()
		if err != nil {
			return
		}
		if side != sideGRPC && side != sideHTTP {
			t.Fatalf("side %d", side)
		}
		kept := s.kept.Bytes()
		if len(kept) > len(in) || !bytes.Equal(kept, in[:len(kept)]) || len(kept) > sniffMax+maxHeaderBytes {
			t.Fatalf("kept %q of %q", kept, in)
		}
	})
}

// scripted is a connection that sends what it is made with.
type scripted struct {
	net.Conn

	in *bytes.Reader
}

func (s *scripted) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *scripted) Write(b []byte) (int, error)      { return len(b), nil }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetDeadline(time.Time) error      { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }

// pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return textAddr("memory") }

func (p *pipes) dial() net.Conn {
	mine, theirs := net.Pipe()
	p.conns <- theirs
	return mine
}

// TestSniffTime: a client that does not say what it wants is let go in time, and
// holds up nobody until then.
func TestSniffTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		port := newSharedPort(l)
		accepted := [2]chan string{make(chan string, 10), make(chan string, 10)}
		var wg sync.WaitGroup
		for i, side := range port.sides {
			wg.Go(func() {
				for {
					c, err := side.Accept()
					if err != nil {
						return
					}
					b := make([]byte, 100)
					n, _ := c.Read(b)
					accepted[i] <- string(b[:n])
					c.Close()
				}
			})
		}
		begun := time.Now()
		slow := l.dial()
		_, _ = io.WriteString(slow, "PRI * ")
		quick := l.dial()
		_, _ = io.WriteString(quick, "GET / ")
		if got := <-accepted[sideHTTP]; got != "GET / " || time.Since(begun) > 0 {
			t.Errorf("HTTP got %q after %v", got, time.Since(begun))
		}
		if _, err := slow.Read(make([]byte, 1)); err == nil || time.Since(begun) != sniffTimeout {
			t.Errorf("the slow one is let go after %v with %v", time.Since(begun), err)
		}
		// One that speaks HTTP/2 and has no call.
		begun = time.Now()
		idle := l.dial()
		go func() { _, _ = io.Copy(io.Discard, idle) }()
		_, _ = io.WriteString(idle, http2.ClientPreface)
		if got := <-accepted[sideGRPC]; got != http2.ClientPreface || time.Since(begun) != quietTimeout {
			t.Errorf("gRPC got %q after %v", got, time.Since(begun))
		}
		for _, side := range port.sides {
			if err := side.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		for _, c := range []net.Conn{slow, quick, idle} {
			c.Close()
		}
	})
}
