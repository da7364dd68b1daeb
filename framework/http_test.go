package framework_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/registry/memory"
	"plinth.internal/server/gateway/testdata/restv1"
)

type notes struct {
	restv1.UnimplementedNotesServer
}

func (notes) Get(_ context.Context, r *restv1.GetRequest) (*restv1.Note, error) {
	if r.GetId() == "none" {
		return nil, status.Error(codes.NotFound, "there is no such note")
	}
	return &restv1.Note{Id: r.GetId(), Text: "hello"}, nil
}

func setupNotes(_ context.Context, s *framework.Service) error {
	s.Gateway(restv1.RestRoutes)
	s.OpenAPI(restv1.RestOpenAPI)
	restv1.RegisterNotesServer(s, notes{})
	return nil
}

func fetch(t *testing.T, c *http.Client, url string) (int, http.Header, string) {
	t.Helper()
	resp, err := c.Get(url)
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

// TestREST: a service's methods over REST, with its trace, its metrics under the
// method's name, and its document.
func TestREST(t *testing.T) {
	app := frameworktest.Start(t, "notes", setupNotes)
	code, header, body := fetch(t, app.HTTP(), "http://notes/v1/notes/a")
	if code != 200 || !strings.Contains(body, "hello") || len(header.Get("X-Trace-Id")) != 32 {
		t.Errorf("%d %v %s", code, header, body)
	}
	if code, _, body = fetch(t, app.HTTP(), "http://notes/v1/notes/none"); code != 404 || !strings.Contains(body, "there is no such note") {
		t.Errorf("%d %s", code, body)
	}
	code, header, body = fetch(t, app.HTTP(), "http://notes/openapi.json")
	var doc struct {
		Paths map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || code != 200 || doc.Paths["/v1/notes/{id}"] == nil || header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %v %.200s", code, header, err, body)
	}
	_, _, body = fetch(t, app.Admin(), "http://admin/metrics")
	for _, want := range []string{`method="test.rest.v1.Notes/Get"`, `code="NOT_FOUND"`} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
}

// TestRESTWrong: what is wrong ends the start.
func TestRESTWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		setup framework.Setup
		opts  []framework.Option
		want  string
	}{
		"no document": {func(_ context.Context, s *framework.Service) error { s.OpenAPI([]byte("{}")); return nil }, nil, "read OpenAPI document 1"},
		"nil":         {func(_ context.Context, s *framework.Service) error { s.Gateway(nil); return nil }, nil, "Gateway was given nil; give it"},
		"not registered": {
			func(_ context.Context, s *framework.Service) error { s.Gateway(restv1.RestRoutes); return nil }, nil,
			"test.rest.v1.Notes, which is not registered: call RegisterNotesServer",
		},
		"body":    {setupNotes, []framework.Option{framework.WithSetting("server.http.max_body", "-1")}, "server.http.max_body"},
		"timeout": {setupNotes, []framework.Option{framework.WithSetting("server.http.idle_timeout", "0s")}, "server.http.idle_timeout"},
		"origin":  {setupNotes, []framework.Option{framework.WithSetting("server.http.cors.origins", "example.com")}, "server.http.cors.origins"},
		"credentials": {
			setupNotes, []framework.Option{framework.WithSetting("server.http.cors.origins", "*"), framework.WithSetting("server.http.cors.credentials", "true")},
			"server.http.cors.credentials",
		},
	} {
		opts := append([]framework.Option{
			framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(io.Discard),
			framework.WithSetting("server.http.addr", "127.0.0.1:0"), framework.WithSetting("server.grpc.addr", "127.0.0.1:0"),
			framework.WithSetting("server.admin.addr", ""),
		}, tc.opts...)
		app, err := framework.New("notes", tc.setup, opts...)
		if err == nil {
			err = app.Run(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestOnePortAnnounced: with one port for both, both are announced with it, and
// calls of both kinds arrive.
func TestOnePortAnnounced(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	store := memory.NewStore()
	reg := memory.Open(store)
	defer reg.Close()
	app, err := framework.New("notes", setupNotes,
		framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()), framework.WithRegistry(reg),
		framework.WithSetting("server.http.addr", addr), framework.WithSetting("server.grpc.addr", addr),
		framework.WithSetting("server.admin.addr", ""), framework.WithSetting("server.drain.delay", "0s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	select {
	case <-app.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	if e := app.Instance().Endpoints; e["grpc"] != addr || e["http"] != addr {
		t.Errorf("announced %v, want %s twice", e, addr)
	}
	tr := &http.Transport{}
	if code, _, body := fetch(t, &http.Client{Transport: tr}, "http://"+addr+"/v1/notes/a"); code != 200 {
		t.Errorf("REST: %d %s", code, body)
	}
	tr.CloseIdleConnections()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := restv1.NewNotesClient(conn).Get(t.Context(), &restv1.GetRequest{Id: "a"}); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	conn.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("stop: %v", err)
	}
}
