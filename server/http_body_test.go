package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"plinth.internal/middleware"
	"plinth.internal/server"
)

// reader answers with how its reading of the body went, as handlers do.
func reader(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "cannot read it: "+err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, len(b))
}

func TestMaxBody(t *testing.T) {
	s := &seen{}
	cfg := loopback()
	cfg.Middleware = s.chain()
	cfg.HTTP.MaxBody = 1000
	unlimited := loopback()
	unlimited.HTTP.MaxBody = -1
	setup := func(s *server.Server) {
		s.Handle("POST /read", http.HandlerFunc(reader))
		s.Handle("POST /blind", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	}
	_, at := serve(t, cfg, setup)
	_, free := serve(t, unlimited, setup)
	_, normal := serve(t, loopback(), setup)
	body := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct {
		name, url string
		body      io.Reader
		status    int
		want      string
	}{
		{"as large as allowed", at[server.HTTP], strings.NewReader(body(1000)), 200, "1000"},
		{"as large as allowed, in chunks", at[server.HTTP], io.MultiReader(strings.NewReader(body(1000))), 200, "1000"},
		{"larger", at[server.HTTP], strings.NewReader(body(1001)), 413, "server.http.max_body"},
		{"larger, in chunks", at[server.HTTP], io.MultiReader(strings.NewReader(body(1001))), 413, "server.http.max_body"},
		{"no limit", free[server.HTTP], strings.NewReader(body(server.DefaultMaxBody + 1)), 200, "4194305"},
		{"default", normal[server.HTTP], io.MultiReader(strings.NewReader(body(server.DefaultMaxBody + 1))), 413, "4194304 bytes"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+tc.url+"/read", tc.body)
		if err != nil {
			t.Fatal(err)
		}
		tr := &http.Transport{DisableKeepAlives: true}
		resp, err := (&http.Client{Transport: tr, Timeout: wait}).Do(req)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		tr.CloseIdleConnections()
		if resp.StatusCode != tc.status || !strings.Contains(string(got), tc.want) {
			t.Errorf("%s: %d %s, want %d with %s", tc.name, resp.StatusCode, got, tc.status, tc.want)
		}
	}
	if status, _, _ := request(t, "POST", "http://"+at[server.HTTP]+"/blind", body(1001)); status != 413 {
		t.Errorf("a handler that reads nothing gets %d", status)
	}
	if calls := s.take(); len(calls) != 5 {
		t.Errorf("the chain saw %q", calls)
	}
}

// talk sends lines over a connection of its own.
func talk(t *testing.T, addr, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(wait))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func answer(t *testing.T, what string, from *bufio.Reader) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// TestSlowBody: a client that sends its body slowly, or stops, is answered and
// let go, whether the handler reads it or not.
func TestSlowBody(t *testing.T) {
	s := &seen{}
	cfg := loopback()
	cfg.Middleware = s.chain()
	cfg.HTTP.ReadTimeout = 200 * time.Millisecond
	finished := make(chan error, 10)
	_, at := serve(t, cfg, func(s *server.Server) {
		s.Handle("POST /read", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			reader(w, r)
			finished <- nil
		}))
		s.Handle("POST /blind", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "done") }))
	})
	_, from := talk(t, at[server.HTTP], "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	if status, body := answer(t, "a body that stops", from); status != 408 || !strings.Contains(body, "3 bytes in") {
		t.Errorf("a body that stops: %d %s", status, body)
	}
	recv(t, "the end of the handler", finished)
	if _, err := from.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection goes on: %v", err)
	}
	for _, head := range []string{"POST /blind", "POST /nothing"} { // nobody reads the body
		begun := time.Now()
		_, from = talk(t, at[server.HTTP], head+" HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
		if status, _ := answer(t, head, from); status != 200 && status != 404 || time.Since(begun) > wait/2 {
			t.Errorf("%s: %d after %v", head, status, time.Since(begun))
		}
	}
	_, from = talk(t, at[server.HTTP], "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nX-Refuse: 1\r\n\r\nabc")
	if status, _ := answer(t, "refused", from); status != 401 {
		t.Errorf("refused: %d", status)
	}
}

// TestReadTimeoutEnds: once the body is there, the handler has all the time it
// wants, and the next request on the connection as well.
func TestReadTimeoutEnds(t *testing.T) {
	cfg := loopback()
	cfg.HTTP.ReadTimeout, cfg.HTTP.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
	s := &seen{}
	cfg.Middleware = []middleware.Middleware{s.middleware}
	_, at := serve(t, cfg, func(s *server.Server) {
		s.Handle("/long", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-r.Context().Done():
				http.Error(w, r.Context().Err().Error(), http.StatusTeapot)
			case <-time.After(300 * time.Millisecond):
				_, _ = io.WriteString(w, "fine")
			}
		}))
		s.Handle("/empty", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	})
	conn, from := talk(t, at[server.HTTP], "")
	for _, req := range []string{
		"POST /long HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		"POST /long HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"GET /long HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /long HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		if _, err := io.WriteString(conn, req); err != nil {
			t.Fatal(err)
		}
		if status, body := answer(t, req, from); status != 200 || body != "fine" && body != "" {
			t.Errorf("%q: %d %s", req, status, body)
		}
	}
	// The deadline of the last response has passed by now.
	<-time.After(200 * time.Millisecond)
	if _, err := io.WriteString(conn, "GET /long HTTP/1.1\r\nHost: x\r\nX-Refuse: 1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if status, _ := answer(t, "refused", from); status != 401 {
		t.Errorf("refused: %d", status)
	}
}

// TestSlowReader: a client that takes nothing is cut off, over HTTP/1 and HTTP/2;
// one that takes its time is not.
func TestSlowReader(t *testing.T) {
	cfg := loopback()
	cfg.HTTP.WriteTimeout = 200 * time.Millisecond
	ended := make(chan error, 10)
	_, at := serve(t, cfg, func(s *server.Server) {
		s.Handle("GET /much", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			piece := make([]byte, 1<<20)
			for range 100 {
				if _, err := w.Write(piece); err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}))
		s.Handle("GET /events", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for range 3 {
				_, _ = io.WriteString(w, "event\n")
				if err := http.NewResponseController(w).Flush(); err != nil {
					ended <- err
					return
				}
				<-time.After(300 * time.Millisecond) // longer than a client may take
			}
			ended <- nil
		}))
	})
	talk(t, at[server.HTTP], "GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := recv(t, "the end of a response that nobody reads", ended); err == nil {
		t.Error("100 MB were written to nobody")
	}
	if status, _, body := get(t, "http://"+at[server.HTTP]+"/events"); status != 200 || strings.Count(body, "event") != 3 {
		t.Errorf("events: %d %s", status, body)
	}
	if err := recv(t, "the end of the events", ended); err != nil {
		t.Errorf("events: %v", err)
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://" + at[server.HTTP] + "/much")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := recv(t, "the end of an HTTP/2 response that nobody reads", ended); err == nil {
		t.Error("100 MB were written to nobody")
	}
}

// TestUpgrade: a connection that was taken over has no limits of time.
func TestUpgrade(t *testing.T) {
	cfg := loopback()
	cfg.HTTP.ReadTimeout, cfg.HTTP.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	_, at := serve(t, cfg, func(s *server.Server) {
		s.Handle("GET /up", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			line, _ := rw.ReadString('\n')
			_, _ = io.WriteString(conn, line)
		}))
	})
	conn, from := talk(t, at[server.HTTP], "GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, err := from.ReadString('\n'); err != nil || !strings.Contains(line, "101") {
		t.Fatalf("%q %v", line, err)
	}
	_, _ = from.ReadString('\n')
	<-time.After(150 * time.Millisecond)
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := from.ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("%q %v", line, err)
	}
}
