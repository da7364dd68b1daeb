//go:build linux

package chaos_test

import (
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/rpc"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/client"
	"plinth.internal/middleware"
)

// invoke makes one call. What the transport sends for it is noted in the trace.
type invoke func(ctx context.Context, l *line, request string, t *trace) error

// invokeGRPC calls through a connection whose stats handler is a tracer.
func invokeGRPC(conn *grpc.ClientConn) invoke {
	return func(ctx context.Context, _ *line, request string, t *trace) error {
		ctx = context.WithValue(ctx, traceKey{}, t)
		return conn.Invoke(ctx, workMethod, wrapperspb.String(request), new(wrapperspb.StringValue))
	}
}

// invokeHTTP calls by GET what may be repeated, and else by POST.
func invokeHTTP(c *http.Client, service string) invoke {
	return func(ctx context.Context, l *line, request string, t *trace) error {
		ctx = httptrace.WithClientTrace(ctx, t.http())
		values := url.Values{"call": {request}}.Encode()
		to := "http://" + service + workPath
		method, body := http.MethodPost, io.Reader(strings.NewReader(values))
		if l.Idempotent {
			method, to, body = http.MethodGet, to+"?"+values, http.NoBody
		}
		r, err := http.NewRequestWithContext(ctx, method, to, body)
		if err != nil {
			return err
		}
		if !l.Idempotent {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := c.Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = &middleware.HTTPError{Status: resp.StatusCode, Message: strings.TrimSpace(string(text))}
		}
		return err
	}
}

// invokeNetRPC calls through connections that are tapped.
func invokeNetRPC(c *client.NetRPC, m *monitor) invoke {
	return func(ctx context.Context, _ *line, request string, t *trace) error {
		m.traces.Store(request, t)
		defer m.traces.Delete(request)
		return c.Call(ctx, workNetRPC, request, new(string))
	}
}

// add begins an attempt that was sent; the one before, which has brought no
// answer, is over.
func (t *trace) add(one *try) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	t.closeLocked()
	t.tries = append(t.tries, one)
}

// closeLocked ends the last attempt if it has not ended.
func (t *trace) closeLocked() {
	if n := len(t.tries); n > 0 && t.tries[n-1].Took == 0 {
		t.tries[n-1].finish(codes.Unknown)
	}
}

// answered ends an attempt with an answer.
func (t *trace) answered(one *try, code codes.Code) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended && one.Took == 0 {
		one.finish(code)
	}
}

func (one *try) finish(code codes.Code) {
	one.Took, one.Code = max(1, micros(time.Now())-one.At), code
}

// http has net/http tell of the attempts of one call, which come one after the
// other. An attempt counts once its request is written.
func (t *trace) http() *httptrace.ClientTrace {
	var mu sync.Mutex
	var addr string
	var sent *try
	begin := func() *try {
		mu.Lock()
		defer mu.Unlock()
		if sent == nil && addr != "" {
			sent = &try{Addr: addr, At: micros(time.Now())}
			t.add(sent)
		}
		return sent
	}
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			mu.Lock()
			defer mu.Unlock()
			addr, sent = info.Conn.RemoteAddr().String(), nil
		},
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				begin()
			}
		},
		GotFirstResponseByte: func() {
			if one := begin(); one != nil { // an answer can be quicker than WroteRequest
				t.answered(one, codes.OK)
			}
		},
	}
}

// monitor looks at the connections of one client over HTTP or net/rpc, where the
// transport does not tell of them by itself.
type monitor struct {
	*callers

	client int
	traces sync.Map // of *trace, by request
}

// dial makes a connection, and tells of it where that is wanted.
func (m *monitor) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	begun := time.Now()
	c, err := d.DialContext(ctx, "tcp", addr)
	if m.spec.Dials {
		emit(line{Kind: lineDial, Client: m.client, At: micros(begun), Took: time.Since(begun).Microseconds(), Addr: addr, Up: err == nil})
	}
	if err != nil || m.spec.Transport == overGRPC {
		return c, err
	}
	return m.watch(c), nil
}

// watch tells of a connection until it is closed.
func (m *monitor) watch(c net.Conn) net.Conn {
	m.conns.Add(1)
	l := line{Kind: lineConn, Client: m.client, Addr: c.RemoteAddr().String(), Local: c.LocalAddr().String()}
	up := l
	up.Up = true
	emit(up)
	w := &watched{Conn: c}
	w.gone = sync.OnceFunc(func() {
		m.conns.Add(-1)
		emit(l)
	})
	if m.spec.Transport == overNetRPC {
		w.tap(m, l.Addr)
	}
	return w
}

// watched is a connection that tells when it is closed and, over net/rpc, what it
// carries.
type watched struct {
	net.Conn

	gone    func()
	out, in *io.PipeWriter // to those that decode what is written and read; or nil
	order   sync.Mutex     // between a request and its answer

	mu       sync.Mutex
	requests map[uint64]sentTo
}

// sentTo is an attempt and the call it belongs to.
type sentTo struct {
	trace *trace
	one   *try
}

func (w *watched) Close() error {
	w.gone()
	if w.out != nil {
		_ = w.out.Close()
		_ = w.in.Close()
	}
	return w.Conn.Close()
}

func (w *watched) Write(p []byte) (int, error) {
	if w.out == nil {
		return w.Conn.Write(p)
	}
	w.order.Lock()
	defer w.order.Unlock()
	n, err := w.Conn.Write(p)
	reveal(w.out, p[:n])
	return n, err
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.in != nil {
		w.order.Lock() // what is an answer to it was noted
		defer w.order.Unlock()
		reveal(w.in, p[:n])
	}
	return n, err
}

// reveal has a decoder look at what was carried, and returns when it wants more.
func reveal(to *io.PipeWriter, p []byte) {
	if len(p) > 0 {
		_, _ = to.Write(p)   // it fails once the connection is closed
		_, _ = to.Write(nil) // waits for the next read, which is empty
	}
}

// tap decodes what a connection for net/rpc carries in both directions, as its two
// ends do. The protocol brings nothing along that says which call a request
// belongs to, but the arguments are unique.
func (w *watched) tap(m *monitor, addr string) {
	w.requests = map[uint64]sentTo{}
	var out, in *io.PipeReader
	out, w.out = io.Pipe()
	in, w.in = io.Pipe()
	go func() {
		dec := gob.NewDecoder(out)
		for {
			var head rpc.Request
			var request string
			err := dec.Decode(&head)
			if err == nil && head.ServiceMethod == workNetRPC {
				err = dec.Decode(&request)
			} else if err == nil { // a ping
				err = dec.DecodeValue(reflect.Value{})
			}
			if err != nil {
				_ = out.Close()
				return
			}
			if t, ok := m.traces.Load(request); ok {
				s := sentTo{t.(*trace), &try{Addr: addr, At: micros(time.Now())}}
				s.trace.add(s.one)
				w.mu.Lock()
				w.requests[head.Seq] = s
				w.mu.Unlock()
			}
		}
	}()
	go func() {
		dec := gob.NewDecoder(in)
		for {
			var head rpc.Response
			if dec.Decode(&head) != nil || dec.DecodeValue(reflect.Value{}) != nil {
				_ = in.Close()
				return
			}
			w.mu.Lock()
			s, ok := w.requests[head.Seq]
			delete(w.requests, head.Seq)
			w.mu.Unlock()
			if ok {
				code := codes.OK
				if head.Error != "" {
					code = codes.Unknown
				}
				s.trace.answered(s.one, code)
			}
		}
	}()
}

// invoker makes what a client of Plinth calls with.
func (m *monitor) invoker(c *client.Client, transport string) (invoke, error) {
	switch transport {
	case overHTTP:
		return invokeHTTP(c.HTTP(workService), workService), nil
	case overNetRPC:
		n, err := c.NetRPC(workService, client.WithServerErrorCode(shedOverNetRPC))
		if err != nil {
			return nil, err
		}
		return invokeNetRPC(n, m), nil
	}
	return nil, fmt.Errorf("there is no transport %q", transport)
}
