package client_test

import (
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/route"
	"plinth.internal/registry"
)

const manyCalls = 20_000

// tally makes many calls at once, and counts who answered.
func tally(t *testing.T, n int, one func(i int) (string, error)) map[string]int {
	t.Helper()
	const callers = 8
	var mu sync.Mutex
	counts := map[string]int{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			own := map[string]int{}
			for i := c; i < n; i += callers {
				id, err := one(i)
				if err != nil {
					t.Errorf("call %d: %v", i, err)
					return
				}
				own[id]++
			}
			mu.Lock()
			defer mu.Unlock()
			for id, n := range own {
				counts[id] += n
			}
		})
	}
	wg.Wait()
	return counts
}

var (
	byHeader  = route.Rule{Name: "canary", Headers: map[string]string{"x-canary": "1"}, Version: "2"}
	byPercent = route.Rule{Name: "canary", Percent: new(5.0), Version: "2"}
	byBoth    = route.Rule{Name: "canary", Headers: map[string]string{"x-canary": "1"}, Percent: new(50.0), Version: "2"}
)

// TestRouteShare is the promise of a canary: 5 % are 5 %, and nothing else gets
// there.
func TestRouteShare(t *testing.T) {
	for _, tc := range []struct {
		name     string
		rule     route.Rule
		balancer string
		every    int // calls with the header are these
	}{
		{"by percentage", byPercent, balancer.NameAdaptive, 0},
		{"by header", byHeader, balancer.NameRoundRobin, 20},
		{"by header and percentage", byBoth, balancer.NameAdaptive, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, r := ruled(t, tc.rule)
			r.balancer = tc.balancer
			w.startAs(t, "old-1", "1", nil)
			w.startAs(t, "old-2", "1", nil)
			w.startAs(t, "new-1", "2", nil)
			conn := settled(t, w, r, 3)
			counts := tally(t, manyCalls, func(i int) (string, error) {
				ctx := t.Context()
				if tc.every > 0 && i%tc.every == 0 {
					ctx = marked(ctx)
				}
				return call(ctx, conn, methodGet)
			})
			got := 100 * float64(counts["new-1"]) / manyCalls
			t.Logf("%d calls, %.2f %% to the canary: %v", manyCalls, got, counts)
			if math.Abs(got-5) > 1 {
				t.Errorf("%.2f %% went to the canary", got)
			}
			if one, other := counts["old-1"], counts["old-2"]; one < manyCalls/4 || other < manyCalls/4 {
				t.Errorf("the rest is %d and %d", one, other)
			}
			if fell := recorded[client.RouteFellBack](w.events); len(fell) > 0 {
				t.Errorf("told of %+v", fell[0])
			}
		})
	}
}

// TestRouteOtherTransports is the same over HTTP and net/rpc, and for streams.
func TestRouteOtherTransports(t *testing.T) {
	const calls = 4000
	check := func(t *testing.T, counts map[string]int) {
		t.Helper()
		if got := 100 * float64(counts["new"]) / calls; math.Abs(got-5) > 1.5 { // more than 4 sigma
			t.Errorf("%.2f %% went to the canary: %v", got, counts)
		} else {
			t.Logf("%d calls, %.2f %% to the canary", calls, got)
		}
	}
	t.Run("http by header", func(t *testing.T) {
		w, _ := ruled(t, byHeader)
		w.webAs(t, "old", "1")
		w.webAs(t, "new", "2")
		h := w.client.HTTP("echo")
		check(t, tally(t, calls, func(i int) (string, error) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://echo/", nil)
			if err != nil {
				return "", err
			}
			if i%20 == 0 {
				r.Header.Set("X-Canary", "1")
			}
			return fetch(h, r)
		}))
	})
	t.Run("http by percentage", func(t *testing.T) {
		w, _ := ruled(t, byPercent)
		w.webAs(t, "old", "1")
		w.webAs(t, "new", "2")
		h := w.client.HTTP("echo")
		check(t, tally(t, calls, func(int) (string, error) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://echo/", nil)
			if err != nil {
				return "", err
			}
			return fetch(h, r)
		}))
	})
	t.Run("net/rpc by percentage", func(t *testing.T) {
		w, _ := ruled(t, byPercent)
		for id, version := range map[string]string{"old": "1", "new": "2"} {
			s := newRPCServer(t, id, "127.0.0.1:0")
			w.announce(t, registry.Instance{ID: id, Version: version, Endpoints: map[string]string{"netrpc": s.addr}})
		}
		n := w.netrpc(t)
		check(t, tally(t, calls, func(int) (string, error) {
			reply, err := said(t.Context(), n, "x")
			id, _, _ := strings.Cut(reply, ":")
			return id, err
		}))
	})
	t.Run("streams by header", func(t *testing.T) {
		w, r := ruled(t, byHeader)
		w.startAs(t, "old", "1", nil)
		w.startAs(t, "new", "2", nil)
		conn := settled(t, w, r, 2)
		check(t, tally(t, calls, func(i int) (string, error) {
			ctx := t.Context()
			if i%20 == 0 {
				ctx = marked(ctx)
			}
			return watch(ctx, conn)
		}))
	})
}

// webAs is web for an instance of a version.
func (w *world) webAs(t *testing.T, id, version string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, id) }))
	t.Cleanup(s.Close)
	w.announce(t, registry.Instance{ID: id, Version: version, Endpoints: map[string]string{"http": s.Listener.Addr().String()}})
	return s
}

// fetch makes a request and returns its body.
func fetch(h *http.Client, r *http.Request) (string, error) {
	resp, err := h.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// TestRouteAllocations holds what rules cost a call.
func TestRouteAllocations(t *testing.T) {
	w, r := ruled(t)
	w.startAs(t, "old", "1", nil)
	w.startAs(t, "new", "2", nil)
	conn := settled(t, w, r, 2)
	perCall := func(ctx context.Context) float64 {
		const calls = 2000
		var before, after runtime.MemStats
		for i := range 2 * calls {
			if i == calls { // the first half warms up
				runtime.ReadMemStats(&before)
			}
			if _, err := call(ctx, conn, methodGet); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / calls
	}
	none := perCall(t.Context())
	r.set(t, byPercent)
	percent := perCall(t.Context())
	plain := perCall(marked(t.Context()))
	r.set(t, byHeader)
	header := perCall(marked(t.Context()))
	t.Logf("allocations of a call: %.1f without rules, %.1f with a percentage; with metadata %.1f, and %.1f with a rule by it", none, percent, plain, header)
	if percent > none+1 {
		t.Errorf("a percentage costs %.1f allocations", percent-none)
	}
	if header > plain+6 { // grpc copies the metadata for whoever reads it
		t.Errorf("a header costs %.1f allocations", header-plain)
	}
}
