package client_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"plinth.internal/client"
	"plinth.internal/middleware"
)

// tokenWorld is a service over gRPC and HTTP that notes the authorization of calls,
// and a client whose settings a test changes.
type tokenWorld struct {
	*world

	set  atomic.Pointer[client.Settings]
	seen atomic.Pointer[string]
}

func newTokenWorld(t *testing.T, opts ...client.Option) *tokenWorld {
	t.Helper()
	w := &tokenWorld{}
	w.change(func(s *client.Settings) { s.TLS = &client.TLS{Mode: client.TLSInsecure} })
	w.world = newWorld(t, append([]client.Option{client.WithSettings(func(string, string) client.Settings { return *w.set.Load() })}, opts...)...)
	w.start(t, "a", func(ctx context.Context, _ string) error {
		md, _ := metadata.FromIncomingContext(ctx)
		w.seen.Store(new(strings.Join(md.Get("authorization"), ", ")))
		return nil
	})
	w.web(t, "b", func(_ http.ResponseWriter, r *http.Request) {
		w.seen.Store(new(strings.Join(r.Header.Values("Authorization"), ", ")))
	})
	connected(t, w.conn(t), 1)
	return w
}

func (w *tokenWorld) change(f func(*client.Settings)) {
	s := inTurn("", "")
	if last := w.set.Load(); last != nil {
		s = *last
	}
	f(&s)
	w.set.Store(&s)
}

// both makes a call over each transport, and returns what arrived as authorization.
func (w *tokenWorld) both(t *testing.T, ctx context.Context) (overGRPC, overHTTP string, errs [2]error) {
	t.Helper()
	w.seen.Store(new(""))
	_, errs[0] = call(ctx, w.conn(t), methodGet)
	overGRPC = *w.seen.Load()
	w.seen.Store(new(""))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://echo/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.client.HTTP("echo").Do(r)
	if errs[1] = err; err == nil {
		_ = resp.Body.Close()
	}
	return overGRPC, *w.seen.Load(), errs
}

func TestWithToken(t *testing.T) {
	var answer atomic.Pointer[error]
	w := newTokenWorld(t, client.WithToken(func(_ context.Context, service string) (string, error) {
		if err := answer.Load(); err != nil {
			return "", *err
		}
		return "token-for-" + service, nil
	}))
	check := func(step, want string, code codes.Code) {
		t.Helper()
		g, h, errs := w.both(t, t.Context())
		if g != want || h != want {
			t.Errorf("%s: %q over gRPC, %q over HTTP; want %q", step, g, h, want)
		}
		for _, err := range errs {
			if middleware.Code(err) != code || err != nil && strings.Contains(err.Error(), "token-for-") {
				t.Errorf("%s: %v, want %v", step, err, code)
			}
		}
	}
	check("insecure on purpose", "Bearer token-for-echo", codes.OK)
	if told := recorded[client.TokenExposed](w.events); len(told) != 1 || told[0].Service != "echo" {
		t.Errorf("told %+v", told)
	}
	w.change(func(s *client.Settings) { s.TLS = nil })
	g, h, errs := w.both(t, t.Context())
	for _, err := range errs {
		if middleware.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "set clients.echo.tls.mode") || !strings.Contains(err.Error(), "client.Settings.TLS in code") || g+h != "" {
			t.Errorf("nothing said about TLS: %q %q %v", g, h, err)
		}
	}
	w.change(func(s *client.Settings) { s.TLS = &client.TLS{Mode: client.TLSInsecure} })
	answer.Store(new(errors.New("the vault is sealed")))
	check("no token to be had", "", codes.Unauthenticated)
	answer.Store(new(error(nil)))
	check("no token wanted", "", codes.OK)
}

// TestOwnAuthorization: what a caller has put there itself stays.
func TestOwnAuthorization(t *testing.T) {
	w := newTokenWorld(t, client.WithToken(func(context.Context, string) (string, error) { return "ours", nil }))
	if _, err := call(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer own"), w.conn(t), methodGet); err != nil || *w.seen.Load() != "Bearer own" {
		t.Errorf("over gRPC: %q, %v", *w.seen.Load(), err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://echo/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Basic b3du")
	resp, err := w.client.HTTP("echo").Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if *w.seen.Load() != "Basic b3du" {
		t.Errorf("over HTTP: %q", *w.seen.Load())
	}
}

// TestTokenFile: a changed file is in use within a second or so, one that is gone
// changes nothing, and it comes before the function.
func TestTokenFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	w := newTokenWorld(t, client.WithToken(func(context.Context, string) (string, error) { return "ours", nil }))
	if g, h, _ := w.both(t, t.Context()); g != "Bearer ours" || h != g {
		t.Errorf("%q %q", g, h)
	}
	w.change(func(s *client.Settings) { s.TokenFile = name })
	arrives := func(want string) func() bool {
		return func() bool {
			g, h, errs := w.both(t, t.Context())
			if errs != [2]error{} {
				t.Error(errs)
			}
			return g == want && h == want
		}
	}
	if !arrives("Bearer first")() {
		t.Error("the file is not used")
	}
	write("second")
	eventually(t, "the second token arrives", arrives("Bearer second"))
	write("not a token\n")
	eventually(t, "the file is rejected", func() bool {
		return arrives("Bearer second")() && len(recorded[client.TokenRejected](w.events)) == 1
	})
	if e := recorded[client.TokenRejected](w.events)[0]; e.File != name || e.Service != "echo" || strings.Contains(e.Err.Error(), "not a") {
		t.Errorf("told %+v", e)
	}
	write("third")
	eventually(t, "the third token arrives", arrives("Bearer third"))

	w.change(func(s *client.Settings) { s.TokenFile = name + "x" })
	if _, _, errs := w.both(t, t.Context()); middleware.Code(errs[0]) != codes.Unauthenticated || !strings.Contains(errs[1].Error(), "tokenx: no such file") {
		t.Errorf("no file: %v", errs)
	}
}

func TestTokenFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"token": "", " token\n": "", "": "is empty", " \n": "is empty", "two tokens": "something else", "a\x00b": "something else",
		strings.Repeat("a", client.MaxToken+1): "must have at most 16384",
	} {
		name := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.ReadToken(name); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	s := client.Settings{TokenFile: "token"}
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "sent over TLS only") {
		t.Errorf("without a mode: %v", err)
	}
	s.TLS = &client.TLS{Mode: client.TLSOn}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}
