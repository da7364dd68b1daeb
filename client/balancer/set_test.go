package balancer

import (
	"sync"
	"testing"
	"time"
	"unsafe"
)

func TestSetKeepsRecordsByAddress(t *testing.T) {
	var set Set
	first := set.Update(noon, []Member{{Addr: "a"}, {Addr: "b", Weight: 50}})
	first[0].Begin(noon, new(Call))

	second := set.Update(noon, []Member{{Addr: "c"}, {Addr: "a", Weight: 7}, {Addr: "a", Weight: 9}})
	if second[1] != first[0] || second[2] != first[0] {
		t.Fatal("the record of a was not kept")
	}
	if got := second[1].Stats(noon).InFlight; got != 1 {
		t.Errorf("a has %d in flight after the update, want 1", got)
	}
	if got := second[1].Weight(); got != 9 {
		t.Errorf("a has weight %d, want the one given last", got)
	}
	if got := second[0].Weight(); got != DefaultWeight {
		t.Errorf("c has weight %d, want the default", got)
	}

	third := set.Update(noon, []Member{{Addr: "b"}})
	if third[0] == first[1] {
		t.Error("the record of b outlived an update without b")
	}
	if got := third[0].Addr(); got != "b" {
		t.Errorf("address is %q", got)
	}
}

func TestSetChurnKeepsMeasurements(t *testing.T) {
	var set Set
	all := set.Update(noon, members(100))
	for i, e := range all {
		call(e, noon, time.Duration(i+1)*time.Millisecond, Succeeded)
	}
	for round := range 20 { // each round replaces ten of the others
		list := members(50)
		for i := range 10 {
			list = append(list, Member{Addr: string(rune('A'+round)) + string(rune('a'+i))})
		}
		set.Update(noon, list)
	}
	kept := set.Update(noon, members(50))
	for i, e := range kept {
		if got, want := e.Stats(noon).Latency, time.Duration(i+1)*time.Millisecond; got != want {
			t.Errorf("endpoint %d has latency %v after churn, want %v", i, got, want)
		}
	}
	if got := set.Fleet().Endpoints; got != 50 {
		t.Errorf("the set holds %d records, want 50", got)
	}
}

func TestSetForgetsAnotherProcess(t *testing.T) {
	early, late := noon.Add(-time.Hour), noon.Add(-time.Minute)
	tests := []struct {
		name        string
		before, now time.Time
		back        bool
		forgets     bool
	}{
		{"same start", early, early, false, false},
		{"another start", early, late, false, true},
		{"same start, lost and back", early, early, true, true},
		{"start not told at first", time.Time{}, late, false, false},
		{"start no longer told", early, time.Time{}, false, false},
		{"same moment in another zone", early, early.In(time.FixedZone("x", 3600)), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var set Set
			e := set.Update(noon, []Member{{Addr: "a", Started: tt.before}})[0]
			var old, older Call
			e.Begin(noon, &older)
			e.Begin(noon, &old)
			call(e, noon, time.Second, Failed)
			e.Report(noon, Report{InFlight: 50, Latency: time.Second, Failures: 0.5, QPS: 1, Utilization: 1})

			if again := set.Update(noon, []Member{{Addr: "a", Started: tt.now, Back: tt.back}})[0]; again != e {
				t.Fatal("the endpoint is another one")
			}
			stats := e.Stats(noon.Add(time.Second))
			if stats.InFlight != 2 {
				t.Errorf("%d in flight, want the 2 that have not ended", stats.InFlight)
			}
			if fresh := stats.Calls == 0 && !stats.Reporting && stats.Latency == 0 && stats.FailureShare == 0 && stats.Oldest == 0; fresh != tt.forgets {
				t.Errorf("the record is fresh: %v, want %v: %+v", fresh, tt.forgets, stats)
			}
			// The new process has a call of its own, between the ends of the old ones.
			var c Call
			e.End(noon.Add(time.Second), &old, Failed)
			e.Begin(noon.Add(time.Second), &c)
			e.End(noon.Add(time.Second), &older, Failed)
			stats = e.Stats(noon.Add(3 * time.Second))
			if stats.InFlight != 1 || stats.Oldest != 2*time.Second {
				t.Errorf("%d in flight, the oldest for %v, want 1 and 2s", stats.InFlight, stats.Oldest)
			}
			if tt.forgets && stats.Failures != 0 {
				t.Errorf("calls of the old process are held against the new one: %d failures", stats.Failures)
			}
		})
	}
}

func TestBound(t *testing.T) {
	var set Set
	e := set.Update(noon, members(2))
	if limit, ok := set.Bound(); ok {
		t.Errorf("a set that nothing is known of has the bound %d", limit)
	}
	call(e[0], noon, time.Millisecond, Succeeded)
	e[0].Report(noon, Report{InFlight: -1, Latency: time.Millisecond, Failures: -1})
	if limit, ok := set.Bound(); ok {
		t.Errorf("without a load reported the bound is %d", limit)
	}
	for i, load := range []int64{4, 6} {
		e[i].Report(noon, Report{InFlight: load, Failures: -1})
	}
	if limit, ok := set.Bound(); !ok || limit != 11 { // 1.5*(5+1)+2
		t.Errorf("the bound is %d, %v, want 11", limit, ok)
	}
	if got := set.Fleet(); got.Load != 5 || got.Reporting != 2 || got.Bound != 11 {
		t.Errorf("the fleet is %+v", got)
	}
	// The server is replaced by an older one, that does not report.
	for i := range 12 {
		call(e[0], noon.Add(time.Duration(i)*time.Second), time.Millisecond, Succeeded)
	}
	if limit, ok := set.Bound(); ok {
		t.Errorf("11 s after the last report the bound is still %d", limit)
	}
}

func TestBoundFollowsTheFleet(t *testing.T) {
	var set Set
	e := set.Update(noon, members(1))[0]
	now := noon
	var limits []int64
	for _, load := range []int64{0, 40} {
		for range 100 {
			now = now.Add(50 * time.Millisecond)
			e.Report(now, Report{InFlight: load, Failures: -1})
		}
		limit, _ := set.Bound()
		limits = append(limits, limit)
	}
	if limits[0] != 4 || limits[1] < 60 || limits[1] > 64 {
		t.Errorf("bounds are %v, want 4 on an idle fleet and about 63.5 on one with 40 calls each", limits)
	}
}

func TestEndpointIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(Endpoint{}); got > 600 {
		t.Errorf("an endpoint takes %d bytes, want at most 600", got)
	}
	if got := unsafe.Sizeof(Call{}); got > 48 {
		t.Errorf("a call takes %d bytes, want at most 48", got)
	}
}

// TestConcurrency is for the race detector, and checks what must be exact after it.
func TestConcurrency(t *testing.T) {
	var set Set
	started := noon.Add(-time.Hour)
	list := func(round int) []Member {
		m := members(8)
		for i := range m {
			m[i].Started = started
		}
		m[round%8].Started = started.Add(time.Duration(round) * time.Second)
		m[(round+1)%8].Gate = gate(func(time.Time) bool { return round%2 == 0 })
		return m
	}
	lists := make(chan *List, 1)
	lists <- NewList(set.Update(noon, list(0)))
	current := func() *List { l := <-lists; lists <- l; return l }

	var wg sync.WaitGroup
	for _, name := range Names() {
		p := mustNew(t, name)
		wg.Go(func() {
			var calls [3]Call
			var on [3]*Endpoint
			for i := range 2000 {
				now := noon.Add(time.Duration(i) * time.Millisecond)
				l, c := current(), i%3
				if on[c] != nil {
					on[c].End(now, &calls[c], Outcome(i%3))
					on[c].Report(now, Report{InFlight: int64(i % 9), Latency: time.Millisecond, Failures: 0.1, QPS: 10, Utilization: 0.1})
				}
				on[c] = l.At(p.Pick(l, Request{Now: now, Key: "k"}))
				if c == 0 {
					on[c].BeginStream(now, &calls[c])
				} else {
					on[c].Begin(now, &calls[c])
				}
				if i%100 == 0 {
					set.Fleet()
					set.Bound()
					on[c].Stats(now)
				}
			}
			for c, e := range on {
				e.End(noon.Add(3*time.Second), &calls[c], Succeeded)
			}
		})
	}
	wg.Go(func() {
		for i := range 200 {
			l := NewList(set.Update(noon.Add(time.Duration(i)*10*time.Millisecond), list(i)))
			<-lists
			lists <- l
		}
	})
	wg.Wait()
	for i := range 8 {
		e := current().At(i)
		if s := e.Stats(noon.Add(time.Minute)); s.InFlight != 0 || s.Oldest != 0 || e.head != nil || e.tail != nil {
			t.Errorf("endpoint %d has %d in flight, the oldest for %v, after all have ended", i, s.InFlight, s.Oldest)
		}
	}
	if got := set.Fleet().InFlight; got != 0 {
		t.Errorf("%d in flight in the fleet after all have ended", got)
	}
}
