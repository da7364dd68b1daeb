package client_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/registry"
)

// pathBefore is what webConnected asks for.
const pathBefore = "/path"

// rawWeb is an HTTP server that can do what none should.
type rawWeb struct {
	requests atomic.Int64 // those of which the head was read while it was faulty
	fault    atomic.Pointer[rawFault]
}

// rawFault answers a request, and reports whether the connection is kept. The
// request is nil where onAccept is set.
type rawFault struct {
	onAccept bool
	answer   func(conn *net.TCPConn, r *http.Request) (keep bool)
}

// startRaw runs and announces a rawWeb, which answers with its ID at first.
func (w *world) startRaw(t *testing.T, id string) *rawWeb {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawWeb{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			go s.serve(conn.(*net.TCPConn), id)
		}
	}()
	t.Cleanup(func() {
		_ = lis.Close()
		<-done
	})
	w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"http": lis.Addr().String()}})
	return s
}

func (s *rawWeb) serve(conn *net.TCPConn, id string) {
	defer func() { _ = conn.Close() }()
	if f := s.fault.Load(); f != nil && f.onAccept {
		f.answer(conn, nil)
		return
	}
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if f := s.fault.Load(); f != nil {
			// Others are the client's ping, and hedges from before that come late.
			if r.Method != http.MethodOptions && r.URL.Path != pathBefore {
				s.requests.Add(1)
			}
			if !f.answer(conn, r) {
				return
			}
			continue
		}
		if !tell(conn, http.StatusOK, "", id) {
			return
		}
	}
}

// tell writes a response.
func tell(conn net.Conn, status int, header, body string) bool {
	r := http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
	if name, value, ok := strings.Cut(header, ": "); ok {
		r.Header = http.Header{name: {value}}
	}
	return r.Write(conn) == nil
}

// reset cuts a connection with an RST.
func reset(conn *net.TCPConn) bool {
	_ = conn.SetLinger(0)
	_ = conn.Close()
	return false
}

// faults are all the ways in which a request ends badly.
func faults() map[string]rawFault {
	status := func(code int, header string) rawFault {
		return rawFault{answer: func(c *net.TCPConn, _ *http.Request) bool { return tell(c, code, header, "no") }}
	}
	after := func(said string) rawFault {
		return rawFault{answer: func(c *net.TCPConn, _ *http.Request) bool {
			_, _ = io.WriteString(c, said)
			return reset(c)
		}}
	}
	return map[string]rawFault{
		"reset before the request is read": {onAccept: true, answer: func(c *net.TCPConn, _ *http.Request) bool { return reset(c) }},
		"reset after the request is read":  after(""),
		"closed after the request is read": {answer: func(*net.TCPConn, *http.Request) bool { return false }},
		"reset within the head":            after("HTTP/1.1 200 OK\r\nContent-"),
		"reset within the body":            after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
		"no HTTP":                          after("what?\r\n\r\n"),
		"500":                              status(http.StatusInternalServerError, ""),
		"502":                              status(http.StatusBadGateway, ""),
		"503":                              status(http.StatusServiceUnavailable, ""),
		"503 with Retry-After":             status(http.StatusServiceUnavailable, "Retry-After: 0"),
		"504":                              status(http.StatusGatewayTimeout, ""),
		"429":                              status(http.StatusTooManyRequests, ""),
		"429 with an invitation":           status(http.StatusTooManyRequests, "Grpc-Retry-Pushback-Ms: 0"),
		"no answer": {answer: func(c *net.TCPConn, _ *http.Request) bool {
			_, _ = io.Copy(io.Discard, c) // until the client gives up
			return false
		}},
	}
}

// TestHTTPSentOnce: what may not be repeated, or cannot be, reaches an instance
// once, whatever happens. The same faults hit a PUT, to see that they are of the
// kind that is retried.
func TestHTTPSentOnce(t *testing.T) {
	t.Parallel()
	streamed := func() io.Reader { return io.NopCloser(strings.NewReader("body")) }
	replayable := func() io.Reader { return strings.NewReader("body") }
	none := func() io.Reader { return nil }
	requests := []struct {
		name, method string
		body         func() io.Reader
		mark         bool
		once         bool
	}{
		{"POST", http.MethodPost, replayable, false, true},
		{"POST without a body", http.MethodPost, none, false, true},
		{"PATCH", http.MethodPatch, replayable, false, true},
		{"streamed POST", http.MethodPost, streamed, false, true},
		{"streamed POST with a mark", http.MethodPost, streamed, true, true},
		{"streamed PUT", http.MethodPut, streamed, false, true},
		{"streamed GET", http.MethodGet, streamed, false, true},
		{"PUT", http.MethodPut, replayable, false, false},
		{"POST with a mark", http.MethodPost, replayable, true, false},
	}
	// Of these a second attempt is not made for anybody, or cannot be told. A
	// connection that is reset at once may not even have been made for the client,
	// and then it tries another one.
	single := map[string]bool{"reset within the body": true, "429": true, "reset before the request is read": true}
	for name, fault := range faults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, tt := range requests {
				for _, warm := range []bool{false, true} { // a connection that is there already
					set := client.Settings{
						Balancer: balancer.NameRoundRobin, Timeout: 300 * time.Millisecond, AttemptTimeout: 50 * time.Millisecond,
						Hedge: retry.HedgePolicy{Enabled: true, Delay: 10 * time.Millisecond},
					}
					if !tt.once {
						set.Timeout = 10 * time.Second // ended by its attempts
					}
					w := newWorld(t, client.WithSettings(func(string, string) client.Settings { return set }))
					a, b := w.startRaw(t, "a"), w.startRaw(t, "b")
					h := w.client.HTTP("echo")
					if warm {
						webConnected(t, h, 2)
					}
					before := len(recorded[client.CallRetried](w.events)) // on a busy machine
					a.fault.Store(&fault)
					b.fault.Store(&fault)
					ctx := t.Context()
					if tt.mark {
						ctx = middleware.WithIdempotency(ctx, middleware.Idempotent)
					}
					r, err := http.NewRequestWithContext(ctx, tt.method, "http://echo/", tt.body())
					if err != nil {
						t.Fatal(err)
					}
					err = drain(h.Do(r))
					got := a.requests.Load() + b.requests.Load()
					switch {
					case tt.once && got > 1:
						t.Errorf("%s, warm %v: it was sent %d times (%v)", tt.name, warm, got, err)
					case tt.once && !fault.onAccept && len(recorded[client.CallRetried](w.events)) > before:
						t.Errorf("%s, warm %v: a retry was told: %+v", tt.name, warm, recorded[client.CallRetried](w.events)[before:])
					case !tt.once && !single[name] && got < 2:
						t.Errorf("%s, warm %v: it was sent %d times (%v), want more", tt.name, warm, got, err)
					}
				}
			}
		})
	}
}

// drain reads a response to its end.
func drain(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// TestHTTPStreamedBodyToADeadInstance: the body is gone with the attempt, and
// nobody is told of another one.
func TestHTTPStreamedBodyToADeadInstance(t *testing.T) {
	w := newWorld(t)
	w.announce(t, registry.Instance{ID: "dead", Endpoints: map[string]string{"http": nowhere(t)}})
	h := w.client.HTTP("echo")
	resp, err := do(t, h, http.MethodPut, "http://echo/", io.NopCloser(strings.NewReader("x")))
	if drain(resp, err) == nil {
		t.Fatal("nobody answered, and all is well")
	}
	if told := recorded[client.CallRetried](w.events); len(told) != 0 {
		t.Errorf("told of %+v", told)
	}
}
