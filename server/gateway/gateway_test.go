package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
	"plinth.internal/server/gateway/testdata/restv1"
)

func TestBindings(t *testing.T) {
	var got []string
	for _, b := range bindings("test.rest.v1.Notes") {
		got = append(got, b.verb+" "+b.pattern+" "+b.method)
	}
	want := []string{
		"GET /v1/notes/{id=*} test.rest.v1.Notes/Get", "GET /v1/books/{book=*}/notes/{id=*} test.rest.v1.Notes/Get",
		"PUT /v1/notes/{id=*} test.rest.v1.Notes/Put", "GET /v1/notes test.rest.v1.Notes/List",
		"POST /v1/notes:add test.rest.v1.Notes/Add", "POST /v1/notes:chat test.rest.v1.Notes/Chat",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if b := bindings("not.there.Service"); b != nil {
		t.Errorf("an unknown service has %v", b)
	}
	for in, want := range map[string]string{"/a/{b}": "/a/{b=*}", "/a/{b=c/*}/{d.e}:f": "/a/{b=c/*}/{d.e=*}:f"} {
		if got := normal(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// elsewhere is a connection that answers everything.
type elsewhere struct{ called *[]string }

func (e elsewhere) Invoke(_ context.Context, method string, _, _ any, _ ...grpc.CallOption) error {
	*e.called = append(*e.called, method)
	return nil
}

func (elsewhere) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "no streams")
}

// TestGuard: a route whose method is not the one that it was judged by reaches
// nobody.
func TestGuard(t *testing.T) {
	var called, labels []string
	g := New(Config{
		Conn: Guard(elsewhere{&called}),
		Around: func(method string, serve middleware.HTTPHandler) http.Handler {
			return middleware.HTTPServerFunc("test", method, func(w http.ResponseWriter, r *http.Request) error {
				labels = append(labels, method)
				return serve(w, r)
			}, nil)
		},
		Unmatched: func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) },
	})
	if err := g.Register(t.Context(), restv1.RestRoutes); err != nil {
		t.Fatal(err)
	}
	do := func(verb, path string) int {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest(verb, path, http.NoBody))
		return w.Code
	}
	if code := do(http.MethodGet, "/v1/notes/a"); code != 200 || labels[0] != "gateway" {
		t.Errorf("a route that nobody described: %d %q", code, labels)
	}
	if err := g.Describe([]string{"test.rest.v1.Notes"}); err != nil {
		t.Fatal(err)
	}
	if code := do(http.MethodGet, "/v1/notes/a"); code != 200 || labels[1] != "test.rest.v1.Notes/Get" {
		t.Errorf("a route that was described: %d %q", code, labels)
	}
	g.routes[route{http.MethodGet, "/v1/notes/{id=*}"}] = "test.rest.v1.Notes/Put"
	called = nil
	if code := do(http.MethodGet, "/v1/notes/a"); code != 500 || len(called) != 0 {
		t.Errorf("another method: %d, called %q", code, called)
	}
	if code := do(http.MethodGet, "/v1/nothing"); code != 404 {
		t.Errorf("no route: %d", code)
	}
	if code := do(http.MethodPost, "/v1/notes/a"); code != 405 {
		t.Errorf("no route for the verb: %d", code)
	}
	g.routes[route{http.MethodGet, "/v1/notes"}] = "other.Service/List"
	if err := g.Describe([]string{"test.rest.v1.Notes"}); err == nil || !strings.Contains(err.Error(), "route GET /v1/notes: other.Service/List and test.rest.v1.Notes/List both have it") {
		t.Errorf("two methods with one route: %v", err)
	}
}

// TestUnanswered: routes that nobody would answer are said, by the service that is
// to be registered; those of hand-written code are not looked at.
func TestUnanswered(t *testing.T) {
	made := func() *Gateway {
		var called []string
		return New(Config{
			Conn:      Guard(elsewhere{&called}),
			Around:    func(string, middleware.HTTPHandler) http.Handler { return http.NotFoundHandler() },
			Unmatched: func(http.ResponseWriter, *http.Request, int) { t.Error("a request that nobody made was answered") },
		})
	}
	g := made()
	if err := g.Register(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Gateway was given nil; give it the function that scaffold gen has made") {
		t.Errorf("nil: %v", err)
	}
	if err := g.Describe(nil); err != nil {
		t.Errorf("no routes: %v", err)
	}
	if err := g.Register(t.Context(), restv1.RestRoutes); err != nil {
		t.Fatal(err)
	}
	err := g.Describe([]string{"other.Service"})
	const want = "Gateway has GET /v1/notes/{id=*} of test.rest.v1.Notes, which is not registered: call RegisterNotesServer"
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("not registered: %v, want one with %q", err, want)
	}
	for _, b := range bindings("test.rest.v1.Notes") {
		if !g.has(b.route) || made().has(b.route) || g.has(route{http.MethodTrace, b.pattern}) {
			t.Errorf("%v is not found where it is, or found where it is not", b.route)
		}
	}
	if err := g.Describe([]string{"test.rest.v1.Notes"}); err != nil {
		t.Errorf("registered: %v", err)
	}

	g = made()
	own := func(_ context.Context, mux *runtime.ServeMux, _ grpc.ClientConnInterface) error {
		return mux.HandlePath(http.MethodGet, "/v1/{anything}/{id}", func(http.ResponseWriter, *http.Request, map[string]string) {
			t.Error("a route was called at the start")
		})
	}
	if err := g.Register(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	if err := g.Describe(nil); err != nil {
		t.Errorf("routes without annotation: %v", err)
	}
	for in, want := range map[string]string{"/a/{b=*}": "/a/x", "/{a=b/*/c/**}/{d=*}:e": "/b/x/c/x/x:e", "/a/*/b": "/a/x/b"} {
		if got := (route{"GET", in}).example(); got != want {
			t.Errorf("an example of %s is %s, want %s", in, got, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	for key, want := range map[string]string{
		"X-Color": "x-color", "Grpc-Metadata-Old": "old", "User-Agent": "user-agent", "Traceparent": "traceparent",
		"Authorization": "", "Content-Type": "", "Connection": "", "Grpc-Timeout": "", "Grpc-Metadata-Grpc-Timeout": "", "Proxy-Authorization": "",
	} {
		if got, ok := fromHeader(key); got != want || ok != (want != "") {
			t.Errorf("%s becomes %q", key, got)
		}
	}
	for key, want := range map[string]string{"location": "Location", "content-type": "", "raw-bin": "", "grpc-status": ""} {
		if got, _ := toHeader(key); got != want {
			t.Errorf("%s becomes %q", key, got)
		}
	}
}

func TestMergeOpenAPI(t *testing.T) {
	const a = `{"swagger":"2.0","info":{"title":"a"},"tags":[{"name":"A"}],"paths":{"/a":{"get":{}}},"definitions":{"A":{}}}`
	const b = `{"swagger":"2.0","info":{"title":"b"},"tags":[{"name":"B"}],"paths":{"/a":{"put":{}},"/b":{"get":{}}},"definitions":{"B":{}}}`
	merged, err := MergeOpenAPI([]byte(a), []byte(b))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Info        map[string]string         `json:"info"`
		Tags        []any                     `json:"tags"`
		Paths       map[string]map[string]any `json:"paths"`
		Definitions map[string]any            `json:"definitions"`
	}
	if err := json.Unmarshal(merged, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Info["title"] != "a" || len(doc.Tags) != 2 || len(doc.Paths["/a"]) != 2 || len(doc.Paths) != 2 || len(doc.Definitions) != 2 {
		t.Errorf("%s", merged)
	}
	for _, tc := range []struct {
		docs []string
		want string
	}{
		{[]string{a, a}, "get /a is there already"},
		{[]string{"{"}, "read OpenAPI document 1: unexpected end"},
		{[]string{a, "null"}, "read OpenAPI document 2: it has neither"},
		{[]string{`{"title":"x"}`}, "neither a field swagger nor openapi"},
	} {
		var docs [][]byte
		for _, d := range tc.docs {
			docs = append(docs, []byte(d))
		}
		if _, err := MergeOpenAPI(docs...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.docs, err, tc.want)
		}
	}
}
