//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"testing"
	"time"
)

// connected returns both ends of a connection, the near one as requests use it.
func connected(t *testing.T) (near *freshConn, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near = freshly(conn, conn)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

func TestFreshConn(t *testing.T) {
	for _, tc := range []struct {
		name  string
		close func(t *testing.T, far net.Conn)
	}{
		{"closed", func(t *testing.T, far net.Conn) {
			if err := far.Close(); err != nil {
				t.Error(err)
			}
		}},
		{"reset", func(t *testing.T, far net.Conn) {
			if err := errors.Join(far.(*net.TCPConn).SetLinger(0), far.Close()); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			near, far := connected(t)
			if _, err := far.Write([]byte("an answer")); err != nil {
				t.Fatal(err)
			}
			w := newWire(t.Context())
			defer w.end()
			w.got(httptrace.GotConnInfo{Conn: near})
			if _, err := near.Write([]byte("a request")); err != nil {
				t.Fatalf("write to a connection that is open and has something to read: %v", err)
			}
			if _, err := far.Read(make([]byte, 16)); err != nil {
				t.Fatal(err)
			}
			if _, err := near.Read(make([]byte, 16)); err != nil {
				t.Fatal(err)
			}
			tc.close(t, far)
			next := newWire(t.Context())
			defer next.end()
			next.got(httptrace.GotConnInfo{Conn: near})
			// Nobody reads: the near side has not noticed, as net/http may not have.
			for until := time.Now().Add(5 * time.Second); ; {
				n, err := near.Write([]byte("x"))
				if errors.Is(err, errPeerClosed) {
					if n != 0 {
						t.Errorf("%d bytes were written", n)
					}
					return
				}
				if err != nil || time.Now().After(until) {
					t.Fatalf("write after the other side closed = %v, want %v", err, errPeerClosed)
				}
			}
		})
	}
}

// TestFreshConnLost: what ended a connection before a request was written is why the
// request failed, though net/http has closed the connection by then.
func TestFreshConnLost(t *testing.T) {
	refused := errors.New("refused")
	for name, tc := range map[string]struct{ err, want error }{
		"refused": {refused, refused}, "closed": {io.EOF, errPeerClosed}, "nothing": {nil, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			under, far := net.Pipe()
			defer func() { _ = far.Close() }()
			near := freshly(lostConn{under, tc.err}, under)
			if _, err := near.Read(nil); !errors.Is(err, tc.err) {
				t.Fatal(err)
			}
			_ = near.Close()
			w := newWire(t.Context())
			defer w.end()
			w.got(httptrace.GotConnInfo{Conn: near})
			if n, err := near.Write([]byte("a request")); n != 0 || !errors.Is(err, tc.want) {
				t.Errorf("%d bytes were written, %v; want %v", n, err, tc.want)
			}
			if w.written() {
				t.Error("the request counts as written")
			}
		})
	}
}

// lostConn is a connection whose reading ends in an error, and whose writing says that
// it is closed as one with TLS does.
type lostConn struct {
	net.Conn

	err error
}

func (c lostConn) Read([]byte) (int, error)  { return 0, c.err }
func (c lostConn) Write([]byte) (int, error) { return 0, net.ErrClosed }

// TestFreshConnAnswersEarly: a server that has seen enough of a request answers and
// closes. The rest of the body is on its way then, and the answer must not be lost.
func TestFreshConnAnswersEarly(t *testing.T) {
	near, far := connected(t)
	request := func(body string) *wire {
		w := newWire(t.Context())
		t.Cleanup(w.end)
		w.got(httptrace.GotConnInfo{Conn: near})
		if _, err := near.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Write([]byte("an answer")); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		return w
	}
	request("a request").end()
	w := request("the head of the next one")
	if err := far.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(5 * time.Second); !near.closed(); {
		if time.Now().After(until) {
			t.Fatal("the close does not arrive")
		}
	}
	if n, err := near.Write([]byte("its body")); err != nil || n != len("its body") {
		t.Errorf("of the rest %d bytes were written, %v", n, err)
	}
	if err := context.Cause(w.ctx); err != nil {
		t.Errorf("the request was ended: %v", err)
	}
}
