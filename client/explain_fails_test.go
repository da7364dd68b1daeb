package client_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/client"
	"plinth.internal/client/breaker"
	"plinth.internal/client/retry"
	"plinth.internal/registry"
)

// kept are the kept events of one kind.
func kept(e client.ServiceExplained, kind string) []client.EventExplained {
	var all []client.EventExplained
	for _, event := range e.Events {
		if event.Kind == kind {
			all = append(all, event)
		}
	}
	return all
}

// TestExplainFailing: a service whose every call fails does not look well, also
// where its calls may not be repeated.
func TestExplainFailing(t *testing.T) {
	w := newWorld(t)
	w.start(t, "sick", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	w.failAll(reply(codes.NotFound)) // which the caller has caused
	_, _ = call(t.Context(), conn, methodPut)
	if got := w.explained(t); got.Totals["failed"] != 0 {
		t.Errorf("an answer is told as a failure: %+v", got.Events)
	}
	w.failAll(reply(codes.Internal))
	const calls = 30
	for range calls {
		if _, err := call(t.Context(), conn, methodPut); err == nil {
			t.Fatal("the call succeeded")
		}
	}
	got := w.whys(t, map[string]string{"sick": " % of the calls fail here, it has 100 % of the calls; its last 30 failed"})
	if !strings.Contains(got.Why, " % of the calls fail over grpc") {
		t.Errorf("of the service it says %q", got.Why)
	}
	events := kept(got, "failed")
	if got.Totals["failed"] != calls || len(events) == 0 {
		t.Fatalf("totals are %v, events %+v", got.Totals, got.Events)
	}
	if e := events[0]; !strings.HasSuffix(methodPut, "/"+e.Method) || e.Instance != "sick" || e.Reason != string(retry.NotIdempotent) || !strings.Contains(e.Detail, "as the test wants it") {
		t.Errorf("the failure is %+v", e)
	}
	_, _ = call(t.Context(), conn, methodGet)
	if e := kept(w.explained(t), "gave_up"); len(e) != 1 || e[0].Instance != "sick" {
		t.Errorf("of the call that may be repeated it says %+v", e)
	}
}

// TestExplainNobody: the page says what the error says, and the calls that nobody
// could take leave a trace.
func TestExplainNobody(t *testing.T) {
	w := newWorld(t)
	conn := w.conn(t)
	var last error
	for range 20 {
		if _, last = call(t.Context(), conn, methodGet); status.Code(last) != codes.Unavailable {
			t.Fatalf("without an instance the call ended with %v", last)
		}
	}
	got := w.explained(t)
	const why = `no instance of "echo" is registered (registry memory): start one`
	if !strings.HasPrefix(got.Why, "nobody can be called over grpc: "+why) || !strings.Contains(last.Error(), why) {
		t.Errorf("the page says %q, the error is %v", got.Why, last)
	}
	if e := kept(got, "rejected"); got.Totals["rejected"] != 20 || e[0].Reason != "nobody" || !strings.Contains(e[0].Detail, why) {
		t.Errorf("totals are %v, events %+v", got.Totals, got.Events)
	}

	if _, _, err := text(t, w.client.HTTP("echo"), "GET", nil); err == nil {
		t.Error("without an instance the request succeeded")
	}
	if got := w.explained(t); !strings.Contains(got.Why, "; nobody can be called over http: "+why) || got.Totals["rejected"] != 21 {
		t.Errorf("after a request the page says %q, totals are %v", got.Why, got.Totals)
	}

	// Those that are listed, and cannot be connected to.
	w.announce(t, registry.Instance{ID: "gone", Endpoints: map[string]string{"grpc": nowhere(t)}})
	eventually(t, "the calls fail for the connection", func() bool {
		_, err := call(t.Context(), conn, methodGet)
		return err != nil && strings.Contains(err.Error(), "none of the 1 known instances")
	})
	got = w.explained(t)
	if !strings.HasPrefix(got.Why, "nobody can be called over http: ") || !strings.Contains(got.Why, "; 0 of 1 instances take calls over grpc (1 not reached or not serving)") ||
		!strings.Contains(kept(got, "rejected")[0].Detail, "none of the 1 known instances") {
		t.Errorf("the page says %q, events are %+v", got.Why, got.Events)
	}
	// A caller that gives up is no trouble of the service.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = call(ctx, conn, methodGet)
	if after := w.explained(t).Totals["rejected"]; after != got.Totals["rejected"] {
		t.Errorf("a cancelled call is told as rejected")
	}
}

// TestExplainOpenBreaker: the page says since when calls are held back, and no
// instance looks as if it got some.
func TestExplainOpenBreaker(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Breaker: breaker.Config{Policy: breaker.PolicyClassic}}
	}))
	w.start(t, "a", reply(codes.Internal))
	w.start(t, "b", reply(codes.Internal))
	conn := w.conn(t)
	eventually(t, "the breaker is open", func() bool {
		_, _ = call(t.Context(), conn, methodPut)
		return len(recorded[client.CallRejected](w.events)) > 0
	})
	got := w.explained(t)
	for _, e := range got.Instances {
		if !strings.HasPrefix(e.Why, "not called: ") {
			t.Errorf("of %s it says %q", e.ID, e.Why)
		}
	}
	if !strings.HasPrefix(got.Why, "0 of 2 instances take calls over grpc (") || !strings.Contains(got.Why, "; the breaker holds the calls back: it opened at ") || !strings.Contains(got.Why, ", and tries again in 30s") {
		t.Errorf("of the service it says %q", got.Why)
	}
	if b := got.Breakers[0]; b.Since.IsZero() || b.InS <= 0 || b.Until.Sub(b.Since) != breaker.DefaultOpenFor {
		t.Errorf("the breaker is %+v", b)
	}
}
