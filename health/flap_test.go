package health_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"plinth.internal/health"
)

// TestFlapping: an instance whose check comes and goes is held back, says so
// everywhere, and comes back by itself.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		h := health.New(health.OnChange(func(r health.Result) {
			mu.Lock()
			defer mu.Unlock()
			if r.Name == health.FlappingCheck {
				told = append(told, string(r.Status))
			}
		}))
		h.Serve("a.v1.A")
		var fails atomic.Bool
		add(t, h, "link", func(context.Context) error {
			if fails.Load() {
				return errors.New("no carrier")
			}
			return nil
		}, health.Interval(time.Second), health.FailureThreshold(1))
		start(t, h)
		synctest.Wait()
		h.SetPhase(health.Serving)
		serving := func() bool {
			t.Helper()
			whole, err1 := h.GRPC().Check(t.Context(), &healthpb.HealthCheckRequest{})
			one, err2 := h.GRPC().Check(t.Context(), &healthpb.HealthCheckRequest{Service: "a.v1.A"})
			if err1 != nil || err2 != nil || whole.GetStatus() != one.GetStatus() {
				t.Errorf("%v %v, %v %v", whole, err1, one, err2)
			}
			return whole.GetStatus() == healthpb.HealthCheckResponse_SERVING
		}
		for range 4 {
			fails.Store(true)
			<-time.After(1300 * time.Millisecond)
			fails.Store(false)
			<-time.After(1300 * time.Millisecond)
		}
		r := result(t, h, health.FlappingCheck)
		if h.Ready() || h.Report().Ready || serving() || r.Status != health.StatusDown || !strings.HasPrefix(r.Error, "held back until ") {
			t.Errorf("ready %v, %+v; want it held back", h.Ready(), r)
		}
		if r := result(t, h, "link"); r.Status != health.StatusOK {
			t.Errorf("%+v, want the check itself to be ok", r)
		}
		if h.Phase() != health.Serving || h.Check(t.Context()) != nil {
			t.Error("holding back is more than a matter of readiness")
		}
		<-time.After(10 * time.Second)
		if !h.Ready() || !serving() {
			t.Error("it does not come back")
		}
		for _, r := range h.Report().Results {
			if r.Name == health.FlappingCheck {
				t.Errorf("%+v after it came back", r)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(told, []string{"down", "ok"}) {
			t.Errorf("told %q", told)
		}
	})
}

// TestNoFlappingAtTheStart: what happens before the process serves counts for
// nothing, and a dependency or a bound check never does.
func TestNoFlappingAtTheStart(t *testing.T) {
	h := health.New()
	n := 0
	add(t, h, "db", func(context.Context) error {
		if n++; n < 20 && n%2 == 0 {
			return errors.New("no")
		}
		return nil
	}, health.FailureThreshold(1))
	m := 0
	other := func(context.Context) error {
		if m++; m%2 == 0 {
			return errors.New("no")
		}
		return nil
	}
	h.Serve("a.A")
	add(t, h, "billing", other, health.FailureThreshold(1), health.Dependency())
	for range 20 {
		_ = h.Check(t.Context())
	}
	h.SetPhase(health.Serving)
	for range 20 {
		if err := h.Check(t.Context()); err != nil || !h.Ready() {
			t.Fatalf("%v, ready %v", err, h.Ready())
		}
	}
	if err := h.Add(health.FlappingCheck, ok); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("a check by that name: %v", err)
	}
}
