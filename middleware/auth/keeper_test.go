package auth_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
)

const keysURL = "https://login.example.org/keys?tenant=hidden"

// source is an issuer's web server, in memory.
type source struct {
	mu     sync.Mutex
	body   []byte
	err    error
	status int
	to     string // where it redirects to
	takes  time.Duration
	times  []time.Time // of requests
}

func (s *source) set(change func(*source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *source) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.times)
}

func (s *source) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.times = append(s.times, time.Now())
	takes := s.takes
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	resp := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(s.body)), Request: r}
	if s.status != 0 {
		resp.StatusCode, resp.Status = s.status, http.StatusText(s.status)
	}
	if s.to != "" {
		resp.StatusCode = http.StatusFound
		resp.Header.Set("Location", s.to)
	}
	return resp, nil
}

// events are those that were told.
type events struct {
	mu   sync.Mutex
	list []auth.Event
}

func (e *events) add(event auth.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

// take returns them and forgets them, as text.
func (e *events) take() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, event := range e.list {
		switch event := event.(type) {
		case auth.KeysChanged:
			out = append(out, "changed")
		case auth.KeysFailed:
			out = append(out, "failed: "+event.Err.Error())
		}
	}
	e.list = nil
	return strings.Join(out, "; ")
}

// following starts an Auth whose keys come from a source, in a bubble.
func following(t *testing.T, i auth.Issuer, s *source) (*auth.Auth, *events) {
	t.Helper()
	var told events
	a := build(t, auth.Config{Issuers: []auth.Issuer{i}, Policy: anyone(), Transport: s, Events: told.add})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return a, &told
}

// TestRotation: a new key works with the first token that names it, an old one is
// refused from the next reading on, remembered tokens of it included.
func TestRotation(t *testing.T) {
	old, fresh := newSigner(t, "old", "ES256"), newSigner(t, "new", "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		s := &source{body: keySet(t, old)}
		a, told := following(t, corp(keysURL), s)
		check := func(step string, signer *signer, want codes.Code) {
			t.Helper()
			token := signer.sign(t, claims(map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()}))
			if _, err := call(t.Context(), a, method, token); middleware.Code(err) != want {
				t.Errorf("%s: %v, want %v", step, err, want)
			}
		}
		check("the first call waits for the keys", old, codes.OK)
		check("a key that is not there yet", fresh, codes.Unauthenticated)
		if n := s.requests(); n != 1 {
			t.Errorf("%d requests, want 1: the last one is less than 10 s ago", n)
		}
		remembered := old.sign(t, claims(map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()}))
		if _, err := call(t.Context(), a, method, remembered); err != nil {
			t.Fatal(err)
		}

		s.set(func(s *source) { s.body = keySet(t, old, fresh) })
		advance(auth.MinRefresh)
		check("the new key", fresh, codes.OK)
		check("the old key", old, codes.OK)
		if n := s.requests(); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}

		s.set(func(s *source) { s.body = keySet(t, fresh) })
		check("the old key, before the next reading", old, codes.OK)
		advance(auth.DefaultRefresh * 12 / 10)
		check("the old key", old, codes.Unauthenticated)
		check("the new key", fresh, codes.OK)
		if _, err := call(t.Context(), a, method, remembered); middleware.Code(err) != codes.Unauthenticated {
			t.Errorf("a remembered token of the old key: %v", err)
		}
		if got := told.take(); got != strings.Repeat("changed; ", 2)+"changed" {
			t.Errorf("told %q", got)
		}
	})
}

// TestUnknownKeys: whoever makes up keys does not make the issuer busy.
func TestUnknownKeys(t *testing.T) {
	good, stranger := newSigner(t, "good", "ES256"), newSigner(t, "stranger", "ES256")
	synctest.Test(t, func(t *testing.T) {
		s := &source{body: keySet(t, good), takes: 100 * time.Millisecond}
		a, _ := following(t, corp(keysURL), s)
		begun := time.Now()
		token := stranger.sign(t, claims(nil))
		for range 600 { // a minute of them, ten at once
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if _, err := call(t.Context(), a, method, token); middleware.Code(err) != codes.Unauthenticated {
						t.Errorf("taken: %v", err)
					}
				})
			}
			wg.Wait()
			advance(100 * time.Millisecond)
		}
		took := time.Since(begun)
		if n, most := s.requests(), int(took/auth.MinRefresh)+1; n > most || n < most-2 {
			t.Errorf("%d requests within %v", n, took)
		}
		for i := 1; i < len(s.times); i++ {
			if d := s.times[i].Sub(s.times[i-1]); d < auth.MinRefresh {
				t.Errorf("two requests within %v", d)
			}
		}
	})
}

// TestSourceFails: the last good keys stay in use, whatever the source says.
func TestSourceFails(t *testing.T) {
	good := newSigner(t, "good", "ES256")
	for _, tc := range []struct {
		name  string
		fails func(*source)
		want  string
	}{
		{"down", func(s *source) { s.err = errors.New("connection refused") }, "connection refused"},
		{"hangs", func(s *source) { s.takes = time.Hour }, "context deadline exceeded"},
		{"error", func(s *source) { s.status = http.StatusBadGateway }, "the answer is Bad Gateway"},
		{"page", func(s *source) { s.body = []byte("<html>") }, "not a JSON Web Key Set"},
		{"no keys", func(s *source) { s.body = []byte(`{"keys":[]}`) }, "there is none that can check"},
		{"huge", func(s *source) { s.body = bytes.Repeat([]byte(" "), auth.MaxKeys+1) }, "more than 1048576 bytes"},
		{"redirect to http", func(s *source) { s.to = "http://evil.example.org/keys" }, "use https:"},
		{"redirects for ever", func(s *source) { s.to = "https://login.example.org/keys" }, "too many redirects"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &source{body: keySet(t, good)}
				a, told := following(t, corp(keysURL), s)
				synctest.Wait()
				if got := told.take(); got != "changed" {
					t.Errorf("told %q", got)
				}
				if err := a.CheckKeys(t.Context()); err != nil {
					t.Error(err)
				}
				token := good.sign(t, claims(map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()}))
				s.set(tc.fails)
				advance(time.Hour)
				if _, err := call(t.Context(), a, method, token); err != nil {
					t.Errorf("a good token: %v", err)
				}
				err := a.CheckKeys(t.Context())
				if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "the keys known before stay in use") ||
					!strings.HasPrefix(err.Error(), "issuer corp: https://login.example.org/keys: ") {
					t.Errorf("check: %v", err)
				}
				if got := told.take(); strings.Count(got, "failed: ") != 1 || !strings.Contains(got, tc.want) || strings.Contains(got, "hidden") {
					t.Errorf("told %q", got)
				}
				before := s.requests()
				s.set(func(s *source) { s.err, s.takes, s.status, s.to, s.body = nil, 0, 0, "", keySet(t, good) })
				advance(auth.DefaultRefresh * 12 / 10)
				if err := a.CheckKeys(t.Context()); err != nil || s.requests() == before {
					t.Errorf("well again: %v, %d requests", err, s.requests()-before)
				}
				if got := told.take(); got != "changed" {
					t.Errorf("told %q", got)
				}
			})
		})
	}
}

// TestNoKeysYet: a source that is down from the start is the issuer's fault, not
// the caller's, and is asked again after 10 s.
func TestNoKeysYet(t *testing.T) {
	good := newSigner(t, "good", "ES256")
	synctest.Test(t, func(t *testing.T) {
		s := &source{body: keySet(t, good), err: errors.New("connection refused")}
		a, told := following(t, corp(keysURL), s)
		if err := a.CheckKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("check: %v", err)
		}
		token := good.sign(t, claims(nil))
		if _, err := call(t.Context(), a, method, token); middleware.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the keys of the token's issuer are not there yet") {
			t.Errorf("no keys: %v", err)
		}
		if who, err := call(t.Context(), a, method, ""); middleware.Code(err) != codes.Unauthenticated {
			t.Errorf("no token: %q, %v", who, err)
		}
		s.set(func(s *source) { s.err = nil })
		advance(auth.MinRefresh)
		if _, err := call(t.Context(), a, method, token); err != nil {
			t.Errorf("10 s later: %v", err)
		}
		if got := told.take(); !strings.HasPrefix(got, "failed: ") || !strings.HasSuffix(got, "; changed") {
			t.Errorf("told %q", got)
		}
	})
}

// TestWithoutRun: nobody waits for ever where nobody reads the keys.
func TestWithoutRun(t *testing.T) {
	good := newSigner(t, "good", "ES256")
	synctest.Test(t, func(t *testing.T) {
		a := build(t, auth.Config{Issuers: []auth.Issuer{corp(keysURL)}, Policy: anyone(), Transport: &source{}})
		begun := time.Now()
		_, err := call(t.Context(), a, method, good.sign(t, claims(nil)))
		if took := time.Since(begun); middleware.Code(err) != codes.Unavailable || took > 10*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// TestKeyFileChanges: a changed file is in use within a second; half of one, or none,
// changes nothing but the check.
func TestKeyFileChanges(t *testing.T) {
	old, fresh := newSigner(t, "old", "ES256"), newSigner(t, "new", "ES256")
	name := keyFile(t, old)
	synctest.Test(t, func(t *testing.T) {
		a, told := following(t, corp(name), nil)
		for _, step := range []struct {
			name  string
			do    func() error
			works *signer
			told  string // begins with
			well  bool
		}{
			{"as it was", func() error { return nil }, old, "", true},
			{"half", func() error { return os.WriteFile(name, keySet(t, fresh)[:40], 0o600) }, old, "failed: " + name + ": read keys: it is not", false},
			{"gone", func() error { return os.Remove(name) }, old, "failed: " + name + ": read keys: open", false},
			{"still gone", func() error { return nil }, old, "", false},
			{"back", func() error { return os.WriteFile(name, keySet(t, old), 0o600) }, old, "changed", true},
			{"another key", func() error { return os.WriteFile(name, keySet(t, fresh), 0o600) }, fresh, "changed", true},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			advance(time.Second)
			for _, s := range []*signer{old, fresh} {
				if _, err := call(t.Context(), a, method, s.sign(t, claims(nil))); (err == nil) != (s == step.works) {
					t.Errorf("%s: key %s: %v", step.name, s.id, err)
				}
			}
			if got := told.take(); !strings.HasPrefix(got, step.told) || step.told == "" && got != "" || strings.Contains(got, ";") {
				t.Errorf("%s: told %q", step.name, got)
			}
			if err := a.CheckKeys(t.Context()); (err == nil) != step.well {
				t.Errorf("%s: check: %v", step.name, err)
			}
		}
	})
}
