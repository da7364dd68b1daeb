package client_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/client/retry"
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
