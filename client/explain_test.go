package client_test

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/retry"
	"plinth.internal/registry"
)

// nowhere is an address that refuses connections.
func nowhere(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

// explained returns what the client says of its only service.
func (w *world) explained(t *testing.T) client.ServiceExplained {
	t.Helper()
	all := w.client.Explain()
	if len(all) != 1 || all[0].Service != "echo" {
		t.Fatalf("explained are %+v, want the service echo", all)
	}
	return all[0]
}

// whys waits until each of the sentences about instances begins as wanted.
func (w *world) whys(t *testing.T, want map[string]string) client.ServiceExplained {
	t.Helper()
	var last client.ServiceExplained
	deadline := time.Now().Add(10 * time.Second)
	for {
		last = w.explained(t)
		wrong := len(last.Instances) != len(want)
		for _, e := range last.Instances {
			wrong = wrong || !strings.Contains(e.Why, want[e.ID])
		}
		if !wrong {
			return last
		}
		if time.Now().After(deadline) || !pause(t.Context(), 2*time.Millisecond) {
			break
		}
	}
	for _, e := range last.Instances {
		t.Errorf("%s: %q, want %q", e.ID, e.Why, want[e.ID])
	}
	return last
}

func TestExplain(t *testing.T) {
	w := newWorld(t)
	sick := w.start(t, "ejected", nil)
	w.start(t, "healthy", nil)
	ill := w.start(t, "ill", nil)
	lost := listen(t, "lost", "127.0.0.1:0", nil)
	w.put(t, registry.Instance{ID: "lost", Endpoints: map[string]string{"grpc": lost.addr}, Zone: "eu-1", Weight: 50})
	drains := listen(t, "drains", "127.0.0.1:0", nil)
	w.announce(t, registry.Instance{ID: "drains", State: registry.Draining, Endpoints: map[string]string{"grpc": drains.addr}})
	w.announce(t, registry.Instance{ID: "gone", Endpoints: map[string]string{"grpc": nowhere(t)}})
	conn := w.conn(t)
	connected(t, conn, 4)
	ill.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	w.lapse("lost")
	sick.fail(reply(codes.Unknown))
	eventually(t, "the sick one is ejected", func() bool {
		_, _ = call(t.Context(), conn, methodPut)
		return len(recorded[client.InstanceEjected](w.events)) == 1
	})
	w.counts(t, 4, 1, 1)
	young := listen(t, "young", "127.0.0.1:0", nil)
	w.announce(t, registry.Instance{ID: "young", Started: time.Now(), Endpoints: map[string]string{"grpc": young.addr}})

	got := w.whys(t, map[string]string{
		"drains":  "not called: it is draining",
		"ejected": "not called: ejected for failures in a row; one call may try it in ",
		"gone":    "not called: it c",
		"healthy": "called: nothing is against it, it has ",
		"ill":     "not called: it says that it is not serving (",
		"lost":    "; quarantined: the registry lost it ",
		"young":   "warming up: it has just started and takes ",
	})
	if !strings.HasPrefix(got.Why, "3 of 7 instances take calls over grpc (1 ejected, 1 draining, 2 not reached or not serving, 1 lost by the registry)") {
		t.Errorf("the service: %q", got.Why)
	}
	byID := map[string]client.InstanceExplained{}
	share := 0.0
	for _, e := range got.Instances {
		byID[e.ID] = e
		share += e.Share
		if e.Protocol != "grpc" || e.Addr == "" {
			t.Errorf("%s is %+v", e.ID, e)
		}
	}
	if share < 0.999 || share > 1.001 {
		t.Errorf("the shares sum up to %v", share)
	}
	if e := byID["lost"]; e.State != client.StateQuarantined || e.LostAt.IsZero() || e.Zone != "eu-1" || e.Weight != 50 {
		t.Errorf("the quarantined one is %+v", e)
	}
	if e := byID["ejected"].Ejection; e == nil || !e.Now || !e.KeptOut || e.Times != 1 || e.InS <= 0 || e.Reason != "consecutive" || e.Share <= 0 {
		t.Errorf("the ejection is %+v", e)
	}
	if e := byID["healthy"]; e.Connection.State != "ready" || e.Connection.Health != "serving" || e.Calls == 0 || e.Failures != 0 || e.Cost.Seconds <= 0 || e.Cost.LatencyMS <= 0 {
		t.Errorf("the healthy one is %+v", e)
	}
	if e := byID["gone"]; e.Connection.State != "failed" {
		t.Errorf("the unreachable one is %+v", e.Connection)
	}
	if r := got.Registry; r.Kind != "memory" || r.Source != "registry" || r.At.IsZero() || r.Error != "" {
		t.Errorf("the list is %+v", r)
	}
	if p := got.Protocols; len(p) != 1 || p[0].Ejected != 1 || p[0].Panic || p[0].LatencyMS <= 0 {
		t.Errorf("the fleet is %+v", p)
	}
	if b := got.Breakers; len(b) != 1 || b[0].Policy != "adaptive" || b[0].Phase != "closed" || b[0].Sent == 0 || b[0].WindowS != 10 {
		t.Errorf("the breakers are %+v", b)
	}
	if s := got.Settings; len(s) != 1 || s[0].Balancer != balancer.NameRoundRobin || s[0].Attempts != 3 || s[0].TimeoutMS != 3000 || !s[0].Ejection {
		t.Errorf("the settings are %+v", s)
	}
	if got.Totals["ejected"] != 1 || got.RetryTokens <= 0 || got.RetryTokensMax != retry.BudgetMax {
		t.Errorf("totals are %v, tokens %v", got.Totals, got.RetryTokens)
	}
	if _, err := json.Marshal(got); err != nil {
		t.Error(err)
	}
}

// TestExplainEvents: what does not go as usual is there, with whom and why.
func TestExplainEvents(t *testing.T) {
	w := newWorld(t)
	w.start(t, "bad", reply(codes.Unavailable))
	w.start(t, "good", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	eventually(t, "a call was retried", func() bool {
		if _, err := call(t.Context(), conn, methodGet); err != nil {
			t.Fatal(err)
		}
		return len(recorded[client.CallRetried](w.events)) > 0
	})
	got := w.explained(t)
	i := slices.IndexFunc(got.Events, func(e client.EventExplained) bool { return e.Kind == "retried" })
	if i < 0 {
		t.Fatalf("no retry among %+v", got.Events)
	}
	if e := got.Events[i]; !strings.HasSuffix(methodGet, "/"+e.Method) || e.Instance != "bad" || e.Reason != string(retry.ReasonUnavailable) || time.Since(e.At) > time.Minute ||
		!strings.Contains(e.Detail, "as the test wants it") {
		t.Errorf("the retry is %+v", e)
	}
	if got.Totals["retried"] == 0 {
		t.Errorf("totals are %v", got.Totals)
	}
}

// TestExplainLastResort: what is called although it should not be says so.
func TestExplainLastResort(t *testing.T) {
	w := newWorld(t)
	e := w.start(t, "drains", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	w.announce(t, registry.Instance{ID: "drains", State: registry.Draining, Endpoints: map[string]string{"grpc": e.addr}})
	w.whys(t, map[string]string{"drains": "called although it is draining: nobody else can be called"})
	if got := w.explained(t).Why; got != "1 of 1 instances take calls over grpc as a last resort: all that can be reached drain" {
		t.Errorf("the service: %q", got)
	}
	e.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	w.whys(t, map[string]string{"drains": "called as a last resort: it says that it is not serving"})
	if got := w.explained(t).Why; got != "1 of 1 instances take calls over grpc as a last resort: none says that it is serving" {
		t.Errorf("the service: %q", got)
	}
}

func TestExplainHTTP(t *testing.T) {
	w := newWorld(t)
	w.web(t, "a", nil)
	b := w.web(t, "b", nil)
	drains := w.web(t, "drains", nil)
	w.announce(t, registry.Instance{ID: "drains", State: registry.Draining, Endpoints: map[string]string{"http": drains.Listener.Addr().String()}})
	h := w.client.HTTP("echo")
	if got := w.explained(t); got.Why != "no list of its instances is known yet" || len(got.Instances) != 0 {
		t.Errorf("before the first request: %+v", got)
	}
	webConnected(t, h, 2)
	b.kill()
	eventually(t, "b could not be connected to", func() bool {
		_, _, err := text(t, h, "GET", nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.explained(t).Instances[1].Connection.Failures > 0
	})
	got := w.whys(t, map[string]string{
		"a":      "called: nothing is against it",
		"b":      "not called while others can be: ",
		"drains": "not called: it is draining",
	})
	if c := got.Instances[1].Connection; c.State != "failed" || c.RetryS < 0 {
		t.Errorf("the connection is %+v", c)
	}
}

// TestExplainRegistryFails: who is called while the registry gives nothing.
func TestExplainRegistryFails(t *testing.T) {
	w := newWorld(t)
	if got := w.client.Explain(); len(got) != 0 {
		t.Errorf("without a service: %+v", got)
	}
	w.start(t, "a", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	w.store.SetDown(context.DeadlineExceeded)
	t.Cleanup(func() { w.store.SetDown(nil) }) // so that the instance can be withdrawn
	eventually(t, "the registry's failure is known", func() bool {
		got := w.explained(t)
		return strings.Contains(got.Why, "1 of 1 instances take calls over grpc; the registry fails, the list is from registry of ") && got.Registry.Error != ""
	})
}

// TestExplainWhileCalling is for the race detector.
func TestExplainWhileCalling(t *testing.T) {
	w := newWorld(t)
	w.start(t, "a", nil)
	sick := w.start(t, "b", nil)
	conn := w.conn(t)
	connected(t, conn, 2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 300 {
			if i == 100 {
				sick.fail(reply(codes.Unavailable))
			}
			if i == 200 {
				w.announce(t, registry.Instance{ID: "a", State: registry.Draining, Endpoints: map[string]string{"grpc": sick.addr}})
			}
			_, _ = call(context.Background(), conn, methodGet)
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			if got := w.explained(t); got.Why == "" {
				t.Error("nothing is said of the service")
			}
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if got := w.explained(t); got.Why == "" {
		t.Error("nothing is said of the service once its connection is closed")
	}
}
