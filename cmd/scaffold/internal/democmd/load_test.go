package democmd

import (
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, tc := range []struct {
		sorted []time.Duration
		q      float64
		want   time.Duration
	}{
		{nil, 0.5, 0},
		{[]time.Duration{7}, 0.99, 7},
		{[]time.Duration{1, 2}, 0.5, 1},
		{[]time.Duration{1, 2, 3}, 0.5, 2},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := quantile(tc.sorted, tc.q); got != tc.want {
			t.Errorf("quantile(%d values, %v) = %d, want %d", len(tc.sorted), tc.q, got, tc.want)
		}
	}
}

func TestTable(t *testing.T) {
	s := summary{instances: map[string]int{"orders-a": 3, "orders-b": 4, "orders-c": 5}}
	r := result{OK: true, Calls: 12, Killed: "orders-a", Restarted: "orders-c", TraceID: "4bf9", TraceLogs: []string{"orders-b"}}
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	good := squeeze(table(r, s))
	for _, want := range []string{"orders-a 3 killed with SIGKILL", "orders-c 5 started in its place", "4bf9 is in the logs of orders-b", "12 calls were made and none was lost"} {
		if !strings.Contains(good, want) {
			t.Errorf("table does not say %q:\n%s", want, good)
		}
	}
	r.OK, r.Failed = false, 2
	if bad := squeeze(table(r, s)); !strings.Contains(bad, "2 of 12 calls were lost") {
		t.Errorf("table hides the loss:\n%s", bad)
	}
}
