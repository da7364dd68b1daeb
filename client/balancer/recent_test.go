package balancer

import (
	"testing"
	"time"
)

// TestRecent: what began and what came to nothing is counted for ten seconds,
// whether it has ended or not, and streams are no exception.
func TestRecent(t *testing.T) {
	e := endpoints(1)[0]
	var open, stream Call
	e.Begin(noon, &open)
	e.BeginStream(noon, &stream)
	for _, o := range []Outcome{Succeeded, Failed, Refused, Refused, Ignored} {
		call(e, noon.Add(3*time.Second), time.Millisecond, o)
	}
	for _, tt := range []struct {
		after time.Duration
		want  Recent
	}{
		{3 * time.Second, Recent{Picks: 7, Refused: 2, Ignored: 1}},
		{9 * time.Second, Recent{Picks: 7, Refused: 2, Ignored: 1}},
		{11 * time.Second, Recent{Picks: 5, Refused: 2, Ignored: 1}},
		{10 * time.Second, Recent{Picks: 5, Refused: 2, Ignored: 1}}, // a clock that is read late
		{14 * time.Second, Recent{}},
	} {
		if got := e.Recent(noon.Add(tt.after)); got != tt.want {
			t.Errorf("after %v it is %+v, want %+v", tt.after, got, tt.want)
		}
	}
	call(e, noon.Add(time.Hour), time.Millisecond, Refused)
	if got := e.Recent(noon.Add(time.Hour)); got != (Recent{Picks: 1, Refused: 1}) {
		t.Errorf("after an hour without calls it is %+v", got)
	}
}

// TestRecentIsOfOneProcess: what another process did is not counted.
func TestRecentIsOfOneProcess(t *testing.T) {
	var s Set
	m := members(1)
	m[0].Started = noon.Add(-time.Hour)
	e := s.Update(noon, m)[0]
	var c Call
	e.Begin(noon, &c)
	m[0].Started = noon
	s.Update(noon, m)
	e.End(noon, &c, Refused)
	if got := e.Recent(noon); got != (Recent{}) {
		t.Errorf("of another process it is %+v", got)
	}
}

// TestRefusedCostsAsMuchAsFailed: an instance that sheds load fast must not draw more.
func TestRefusedCostsAsMuchAsFailed(t *testing.T) {
	all := endpoints(3)
	for i, o := range []Outcome{Succeeded, Failed, Refused} {
		for range 20 {
			call(all[i], noon, 5*time.Millisecond, o)
		}
	}
	later := noon.Add(time.Second)
	if failed, refused := all[1].Stats(later), all[2].Stats(later); failed.Failures != 20 || refused.Failures != 20 || refused.FailureShare < 0.2 {
		t.Errorf("failures are %+v, refusals %+v", failed, refused)
	}
}

func BenchmarkBeginEnd(b *testing.B) {
	e := endpoints(1)[0]
	var c Call
	b.ReportAllocs()
	for b.Loop() {
		e.Begin(noon, &c)
		e.End(noon, &c, Succeeded)
	}
}
