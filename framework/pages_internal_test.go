package framework

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"plinth.internal/health"
)

// TestHealthIsOneLook: the status code and the document of an answer never contradict
// one another, at whatever moment a check changes.
func TestHealthIsOneLook(t *testing.T) {
	app := builtApp(t)
	pages := app.adminPages()
	app.health.SetPhase(health.Serving)
	const pause = 50 * time.Microsecond
	beat, err := app.health.Heartbeat("at the edge", pause)
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		beat()
		for until := time.Now().Add(rand.N(pause)); time.Now().Before(until); { // it becomes overdue at any moment of the answer
			continue
		}
		w := httptest.NewRecorder()
		pages["/health"].ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/health", http.NoBody))
		var doc HealthDocument
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if (w.Code == http.StatusOK) != (doc.Status != HealthDown) {
			t.Errorf("%d says %s", w.Code, doc.Status)
			break
		}
	}
}

// TestListenerNames: a listener that nothing would be served on is an error.
func TestListenerNames(t *testing.T) {
	_, err := New("front", func(context.Context, *Service) error { return nil }, WithConfigFile(""), WithEnviron(nil), WithListener("nope", nil))
	if err == nil || !strings.Contains(err.Error(), `WithListener: there is no listener "nope"; it is grpc, http or admin`) {
		t.Errorf("err = %v", err)
	}
}

// builtApp is an app that does not run; what New has begun ends with the test.
func builtApp(t *testing.T, opts ...Option) *App {
	t.Helper()
	app, err := New("front", func(context.Context, *Service) error { return nil }, append([]Option{
		WithConfigFile(""), WithEnviron(nil), WithLogOutput(t.Output()), WithSetting("server.grpc.addr", "127.0.0.1:0"),
		WithSetting("server.admin.addr", ""), WithSetting("server.drain.delay", "0s"),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := app.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return app
}
