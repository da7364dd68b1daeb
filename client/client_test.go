package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/registry/memory"
)

func TestNewRefusesNil(t *testing.T) {
	if _, err := client.New(nil); err == nil {
		t.Error("a nil registry was taken")
	}
	reg := memory.Open(memory.NewStore())
	defer func() { _ = reg.Close() }()
	for name, opt := range map[string]client.Option{
		"settings": client.WithSettings(nil), "dialer": client.WithDialer(nil), "events": client.WithEvents(nil),
		"targets": client.WithTargets(nil), "credentials": client.WithTargetCredentials(nil),
	} {
		if _, err := client.New(reg, opt); err == nil {
			t.Errorf("nil %s were taken", name)
		}
	}
}

func TestServiceNames(t *testing.T) {
	tests := []struct {
		name string
		ok   bool
	}{
		{"billing", true},
		{"billing-2.eu_west", true},
		{"", false},
		{"billing:9000", false},
		{"http://billing", false},
		{"a/b", false},
		{"a b", false},
		{".hidden", false},
		{"bücher", false},
		{strings.Repeat("x", 254), false},
	}
	w := newWorld(t)
	for _, tt := range tests {
		conn, err := w.client.Conn(tt.name)
		if (err == nil) != tt.ok || (conn != nil) != tt.ok {
			t.Errorf("Conn(%q): %v", tt.name, err)
		}
		if !tt.ok {
			if resp, err := get(t, w.client.HTTP(tt.name), "http://billing/"); err == nil {
				_ = resp.Body.Close()
				t.Errorf("HTTP(%q) makes calls", tt.name)
			}
		}
	}
}

func TestConnIsShared(t *testing.T) {
	w := newWorld(t)
	w.start(t, "a", nil)
	conn := w.conn(t)
	if w.conn(t) != conn {
		t.Error("a second connection was made")
	}
	own, err := w.client.Conn("echo", grpc.WithUserAgent("test"))
	if err != nil || own == conn {
		t.Fatalf("options were dropped (error %v)", err)
	}
	if _, err := call(t.Context(), own, methodGet); err != nil {
		t.Error(err)
	}
	if err := own.Close(); err != nil {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	w := newWorld(t)
	w.start(t, "a", nil)
	conn := w.conn(t)
	h := w.client.HTTP("echo")
	connected(t, conn, 1)
	for range 2 {
		if err := w.client.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := call(t.Context(), conn, methodGet); err == nil {
		t.Error("a call succeeded after Close")
	}
	if _, err := w.client.Conn("echo"); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Conn after Close: %v", err)
	}
	for _, h := range []*http.Client{h, w.client.HTTP("echo")} {
		resp, err := get(t, h, "http://echo/")
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.Is(err, client.ErrClosed) {
			t.Errorf("HTTP after Close: %v", err)
		}
	}
}

// TestCloseEndsRequests: Close ends requests over HTTP that wait for an answer, and
// responses whose body is still read.
func TestCloseEndsRequests(t *testing.T) {
	w := newWorld(t)
	arrived := make(chan struct{}, 2)
	web := w.web(t, "a", func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			_, _ = io.WriteString(rw, "begin")
			_ = http.NewResponseController(rw).Flush()
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	h := w.client.HTTP("echo")
	resp, err := get(t, h, "http://echo/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	ended := make(chan error, 1)
	go func() {
		resp, err := get(t, h, "http://echo/")
		if err == nil {
			_ = resp.Body.Close()
		}
		ended <- err
	}()
	<-arrived
	<-arrived
	if err := w.client.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; middleware.Code(err) != codes.Canceled || !errors.Is(err, client.ErrClosed) {
		t.Errorf("the request ended with %v", err)
	}
	if data, err := io.ReadAll(resp.Body); string(data) != "begin" || err == nil {
		t.Errorf("the body ended with %q, %v", data, err)
	}
	if n := web.calls.Load(); n != 2 {
		t.Errorf("%d requests came, want 2: none is made again", n)
	}
	if _, err := get(t, h, "http://echo/"); middleware.Code(err) != codes.Canceled { //nolint:bodyclose // there is none
		t.Errorf("a request after Close: %v", err)
	}
}

func TestOuterMiddlewaresSeeACallOnce(t *testing.T) {
	var order []string
	note := func(name string) middleware.Middleware {
		return func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, call *middleware.Call) error {
				_, bounded := ctx.Deadline()
				if bounded {
					t.Error("the deadline is outside")
				}
				order = append(order, name)
				err := next(ctx, call)
				order = append(order, name)
				return err
			}
		}
	}
	w := newWorld(t, client.WithMiddleware(note("trace")), client.WithMiddleware(note("meter")))
	w.start(t, "a", nil)
	w.start(t, "b", nil)
	if _, err := call(context.Background(), w.conn(t), methodGet); err != nil {
		t.Fatal(err)
	}
	if want := []string{"trace", "meter", "meter", "trace"}; !slices.Equal(order, want) {
		t.Errorf("ran %v, want %v", order, want)
	}
}

func TestSettingsValidate(t *testing.T) {
	tests := []struct {
		settings client.Settings
		want     []string // parts of the error, none = valid
	}{
		{client.Settings{}, nil},
		{client.DefaultSettings(), nil},
		{client.Settings{Timeout: -1, Breaker: breaker.Config{Policy: breaker.PolicyOff}, Balancer: balancer.NameRoundRobin}, nil},
		{client.Settings{AttemptTimeout: -time.Second}, []string{"AttemptTimeout to -1s"}},
		{client.Settings{Balancer: "fastest", Breaker: breaker.Config{Policy: "fuse"}}, []string{`Balancer to "fastest"`, "round_robin", `Breaker.Policy to "fuse"`, "adaptive"}},
		{client.Settings{Retry: retry.Policy{MaxAttempts: 99}}, []string{"MaxAttempts to 99"}},
	}
	for _, tt := range tests {
		err := tt.settings.Validate()
		if (err == nil) != (tt.want == nil) {
			t.Errorf("%+v: %v", tt.settings, err)
			continue
		}
		for _, part := range tt.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%+v: %q does not say %q", tt.settings, err, part)
			}
		}
	}
}

func TestInvalidSettingsFallBack(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{AttemptTimeout: -1, Balancer: "fastest", Breaker: breaker.Config{Policy: "fuse"}, Retry: retry.Policy{MaxAttempts: -1}}
	}))
	w.start(t, "a", nil)
	if _, err := call(t.Context(), w.conn(t), methodGet); err != nil {
		t.Error(err)
	}
}
