package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/server"
	"plinth.internal/server/gateway/testdata/restv1"
)

// request sends a request with a connection of its own.
func request(t *testing.T, verb, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), verb, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: wait}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func serveNotes(t *testing.T, edit func(*server.Config)) (*seen, *notes, string) {
	t.Helper()
	s, n := &seen{}, &notes{}
	cfg := loopback()
	cfg.Middleware = s.chain()
	if edit != nil {
		edit(&cfg)
	}
	_, at := serve(t, cfg, func(srv *server.Server) {
		srv.Gateway(t.Context(), restv1.RestRoutes)
		restv1.RegisterNotesServer(srv, n)
		srv.Handle("GET /v1/notes/special", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "special")
		}))
	})
	return s, n, "http://" + at[server.HTTP]
}

// plain takes the spaces out of JSON, which protojson varies.
func plain(s string) string { return strings.Join(strings.Fields(s), "") }

// TestGateway: REST reaches the handlers, through one chain, and everything comes
// back as over gRPC.
func TestGateway(t *testing.T) {
	s, _, url := serveNotes(t, nil)
	for _, tc := range []struct {
		verb, path, body string
		header           []string
		status           int
		want             []string // of the body
		call             string
	}{
		{"GET", "/v1/notes/a?count=7", "", nil, 200, []string{`"id":"a"`, `"count":"7"`}, "test.rest.v1.Notes/Get OK"},
		{"GET", "/v1/books/b/notes/a", "", nil, 200, []string{`"id":"a"`, `"text":"b"`}, "test.rest.v1.Notes/Get OK"},
		{"GET", "/v1/notes/special", "", nil, 200, []string{"special"}, "GET /v1/notes/special OK"},
		{"PUT", "/v1/notes/a", `{"text":"hello","count":3,"new":1}`, nil, 200, []string{`"id":"a"`, `"text":"hello"`}, "test.rest.v1.Notes/Put OK"},
		{"PUT", "/v1/notes/a?bogus=1", `{"txet":"hello"}`, nil, 200, []string{`"id":"a"`, `"text":""`}, "test.rest.v1.Notes/Put OK"},
		{
			"GET", "/v1/notes/metadata", "", []string{"X-Color", "red", "Raw-Bin", "AP8=", "Authorization", "Bearer x"}, 200,
			[]string{"/test.rest.v1.Notes/Get", "x-color=[red]", `authorization=[Bearerx]out=0`, `raw-bin=[\"\\x00`}, "test.rest.v1.Notes/Get OK",
		},
		{"GET", "/v1/notes/peer", "", nil, 200, []string{"127.0.0.1:", "plain"}, "test.rest.v1.Notes/Get OK"},
		{
			"GET", "/v1/notes/missing", "", nil, 409,
			[]string{`"message":"thereisone"`, `"reason":"TAKEN"`, "google.rpc.ErrorInfo"}, "test.rest.v1.Notes/Get ALREADY_EXISTS",
		},
		{"GET", "/v1/notes/panic", "", nil, 500, []string{"internalerrorin"}, "test.rest.v1.Notes/Get INTERNAL"},
		{"GET", "/v1/notes/deadline", "", []string{"Grpc-Timeout", "50m"}, 504, []string{`"code":4`}, "test.rest.v1.Notes/Get DEADLINE_EXCEEDED"},
		{"PUT", "/v1/notes/a", `{"count":"many"}`, nil, 400, []string{`"code":3`, "count", "line1:"}, "test.rest.v1.Notes/Put INVALID_ARGUMENT"},
		{"PUT", "/v1/notes/a", `{"count":`, nil, 400, []string{`"code":3`, "readtherequest"}, "test.rest.v1.Notes/Put INVALID_ARGUMENT"},
		{"GET", "/v1/notes/a?count=many", "", nil, 400, []string{`"code":3`, "count"}, "test.rest.v1.Notes/Get INVALID_ARGUMENT"},
		{"GET", "/v1/notes/a", "", []string{"Grpc-Timeout", "soon"}, 400, []string{`"code":3`}, "test.rest.v1.Notes/Get INVALID_ARGUMENT"},
		{"GET", "/v1/notes/a", "", []string{"Raw-Bin", "!"}, 400, []string{`"code":3`, "Raw-Bin"}, "test.rest.v1.Notes/Get INVALID_ARGUMENT"},
		{"GET", "/v1/nothing", "", nil, 404, []string{`"code":5`, "thereisnoroute"}, "unmatched NOT_FOUND"},
		{"DELETE", "/v1/notes/a", "", nil, 405, []string{"isnotthereforDELETE"}, "unmatched FAILED_PRECONDITION"},
		{"POST", "/v1/notes/a", "", []string{"X-HTTP-Method-Override", "GET", "Content-Type", "application/x-www-form-urlencoded"}, 405, nil, "unmatched FAILED_PRECONDITION"},
		{"GET", "/v1/notes", "", nil, 200, []string{`{"result":{"id":"","text":"","count":"0"}}{"result":`, `"count":"2"`}, "test.rest.v1.Notes/List OK"},
		{"GET", "/v1/notes?id=missing", "", nil, 404, []string{`"code":5`, "nonotes"}, "test.rest.v1.Notes/List NOT_FOUND"},
		{"GET", "/v1/notes?id=broken", "", nil, 200, []string{`"count":"2"`, `{"error":{"code":15`, "therestisgone"}, "test.rest.v1.Notes/List DATA_LOSS"},
		{"GET", "/v1/notes?id=panic", "", nil, 500, []string{"internalerrorin"}, "test.rest.v1.Notes/List INTERNAL"},
		{"POST", "/v1/notes:add", `{"count":1} {"count":2}`, nil, 200, []string{`"count":"3"`}, "test.rest.v1.Notes/Add OK"},
		{"POST", "/v1/notes:add", `{"count":1} {"count":"x"}`, nil, 400, []string{"count"}, "test.rest.v1.Notes/Add INVALID_ARGUMENT"},
		{"POST", "/v1/notes:chat", `{"count":1} {"count":2}`, nil, 200, []string{`"count":"1"`, `"count":"2"`}, "test.rest.v1.Notes/Chat OK"},
	} {
		status, header, body := request(t, tc.verb, url+tc.path, tc.body, tc.header...)
		if status != tc.status {
			t.Errorf("%s %s: %d %s, want %d", tc.verb, tc.path, status, body, tc.status)
		}
		for _, want := range tc.want {
			if !strings.Contains(plain(body), want) {
				t.Errorf("%s %s: %s has no %s", tc.verb, tc.path, body, want)
			}
		}
		if status >= 400 && (!json.Valid([]byte(body)) || header.Get("Content-Type") != "application/json") {
			t.Errorf("%s %s: %s %s is no google.rpc.Status", tc.verb, tc.path, header.Get("Content-Type"), body)
		}
		if strings.Contains(body, "secret") {
			t.Errorf("%s tells what is nobody's business: %s", tc.path, body)
		}
		if calls := s.take(); len(calls) != 1 || calls[0] != "server_http "+tc.call {
			t.Errorf("%s %s: the chain saw %q, want %q once", tc.verb, tc.path, calls, tc.call)
		}
	}
	if s.panic != "secret" || !strings.Contains(string(s.stack), "notes") {
		t.Errorf("the panic of a stream is told as %v at %s", s.panic, s.stack)
	}
	_, header, _ := request(t, "GET", url+"/v1/notes/a", "")
	if header.Get("X-Header") != "h" || header.Get("Raw-Bin") != "AP8" {
		t.Errorf("headers of a unary call: %v", header)
	}
	if _, header, _ = request(t, "GET", url+"/v1/notes/missing", ""); header.Get("X-Trailer") != "t" {
		t.Errorf("headers of a call that failed: %v", header)
	}
	if status, _, body := request(t, "GET", url+"/v1/notes/a", "", "X-Refuse", "1"); status != 401 || !strings.Contains(body, "who are you?") {
		t.Errorf("refused by the chain: %d %s", status, body)
	}
}

// TestGatewayPayload: interceptors for payloads see calls over REST as well.
func TestGatewayPayload(t *testing.T) {
	var unary, stream []string
	_, _, url := serveNotes(t, func(cfg *server.Config) {
		for _, name := range []string{"a", "b"} {
			cfg.UnaryPayload = append(cfg.UnaryPayload, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
				unary = append(unary, name+info.FullMethod)
				if n, ok := req.(*restv1.Note); ok && n.GetText() == "bad" {
					return nil, status.Error(codes.InvalidArgument, "text is bad")
				}
				return h(ctx, req)
			})
			cfg.StreamPayload = append(cfg.StreamPayload, func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
				stream = append(stream, fmt.Sprint(name+info.FullMethod, " ", info.IsServerStream, info.IsClientStream))
				return h(srv, ss)
			})
		}
	})
	if status, _, body := request(t, "PUT", url+"/v1/notes/a", `{"text":"bad"}`); status != 400 || !strings.Contains(body, "text is bad") {
		t.Errorf("%d %s", status, body)
	}
	request(t, "GET", url+"/v1/notes/a", "")
	if want := []string{"a/test.rest.v1.Notes/Put", "a/test.rest.v1.Notes/Get", "b/test.rest.v1.Notes/Get"}; !slices.Equal(unary, want) {
		t.Errorf("unary %q, want %q", unary, want)
	}
	request(t, "GET", url+"/v1/notes", "")
	if want := []string{"a/test.rest.v1.Notes/List true false", "b/test.rest.v1.Notes/List true false"}; !slices.Equal(stream, want) {
		t.Errorf("stream %q, want %q", stream, want)
	}
}

// TestGatewayLeaves: a client that goes away ends the handler of its stream.
func TestGatewayLeaves(t *testing.T) {
	_, n, url := serveNotes(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/notes?id=endless", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil || !strings.Contains(line, "result") {
		t.Fatalf("first message %.80q, %v", line, err)
	}
	if n.running.Load() != 1 {
		t.Error("the handler does not run")
	}
	cancel()
	resp.Body.Close()
	for begun := time.Now(); n.running.Load() != 0; {
		if time.Since(begun) > wait {
			t.Fatal("the handler goes on for nobody")
		}
		<-time.After(time.Millisecond)
	}
}

// TestGatewayErrors: what is wrong with routes is an error of Listen.
func TestGatewayErrors(t *testing.T) {
	cfg := loopback()
	delete(cfg.Addrs, server.HTTP)
	s := build(t, cfg)
	s.Gateway(t.Context(), restv1.RestRoutes)
	if err := s.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "set server.http.addr") {
		t.Errorf("routes without a listener: %v", err)
	}
	late, at := serve(t, loopback(), nil)
	late.Gateway(t.Context(), restv1.RestRoutes)
	if err := late.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "add routes of gRPC methods: the server is listening already") {
		t.Errorf("too late: %v at %v", err, at)
	}
	s = build(t, loopback())
	s.Gateway(t.Context(), nil)
	s.Gateway(t.Context(), restv1.RestRoutes)
	err := s.Listen(t.Context())
	for _, want := range []string{"Gateway was given nil", "test.rest.v1.Notes, which is not registered"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("routes that nobody answers: %v, want %q", err, want)
		}
	}
}

// TestGatewayRace has many calls of all kinds at once.
func TestGatewayRace(t *testing.T) {
	_, n, url := serveNotes(t, nil)
	done := make(chan string)
	for i := range 8 {
		go func() {
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: wait}
			for j := range 30 {
				paths := []string{"/v1/notes/a", "/v1/notes", "/v1/notes?id=broken", "/v1/notes/missing"}
				resp, err := client.Get(url + paths[(i+j)%len(paths)])
				if err != nil {
					done <- err.Error()
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			done <- ""
		}()
	}
	for range 8 {
		if err := <-done; err != "" {
			t.Error(err)
		}
	}
	if n.running.Load() != 0 {
		t.Error("handlers are left")
	}
}
