package outlier

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// middle is a source of chance that jitters nothing.
func middle() float64 { return 0.5 }

func members(n int) []Member {
	list := make([]Member, n)
	for i := range list {
		list[i] = Member{Addr: fmt.Sprintf("10.0.0.%d:9000", i), Started: t0.Add(-time.Hour)}
	}
	return list
}

// fleet is a detector with its records and a clock.
type fleet struct {
	*Detector

	records []*Record
	now     time.Time
}

func newFleet(config Config, n int) *fleet {
	d := New(config, middle)
	return &fleet{Detector: d, records: d.Update(t0, members(n)), now: t0}
}

// call makes n attempts at an instance and returns what came of the last.
func (f *fleet) call(i, n int, outcome Outcome) Change {
	var change Change
	for range n {
		change = f.records[i].End(f.now, f.records[i].Begin(f.now), outcome)
	}
	return change
}

func (f *fleet) sleep(d time.Duration) { f.now = f.now.Add(d) }

// open lists who may be picked, as a string of ones and zeros.
func (f *fleet) open() string {
	var b strings.Builder
	for _, r := range f.records {
		if r.Open(f.now) {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	return b.String()
}

func (f *fleet) expect(t *testing.T, open string) {
	t.Helper()
	if got := f.open(); got != open {
		t.Fatalf("open are %s, want %s", got, open)
	}
}

func TestWhoIsEjected(t *testing.T) {
	tests := []struct {
		name   string
		config Config
		n      int // instances; the verdict is about the first
		steps  []step
		want   Reason // "" = not ejected
	}{
		{"four failures", Config{}, 3, []step{{0, 4, Failed}}, ""},
		{"five failures", Config{}, 3, []step{{0, 5, Failed}}, ReasonConsecutive},
		{"five failures, the rest is well", Config{}, 3, []step{{1, 50, Succeeded}, {0, 4, Failed}, {2, 1, Succeeded}, {0, 1, Failed}}, ReasonConsecutive},
		{"five failures after many successes", Config{}, 3, []step{{0, 1000, Succeeded}, {1, 1000, Succeeded}, {0, 1, Failed}, {1, 1, Succeeded}, {0, 4, Failed}}, ReasonConsecutive},
		{"nine failures, no word of the rest meanwhile", Config{}, 3, []step{{0, 1000, Succeeded}, {1, 1000, Succeeded}, {0, 9, Failed}}, ""},
		{"ten failures, no word of the rest meanwhile", Config{}, 3, []step{{0, 1000, Succeeded}, {1, 1000, Succeeded}, {0, 10, Failed}}, ReasonConsecutive},
		{"a success in between", Config{}, 3, []step{{0, 4, Failed}, {0, 1, Succeeded}, {0, 4, Failed}}, ""},
		{"a cancelled one in between", Config{}, 3, []step{{0, 4, Failed}, {0, 9, Ignored}, {0, 1, Failed}}, ReasonConsecutive},
		{"cancelled only", Config{}, 3, []step{{0, 1000, Ignored}}, ""},
		{"alone", Config{}, 1, []step{{0, 1000, Failed}}, ""},
		{"one of two", Config{}, 2, []step{{0, 4, Failed}, {1, 5, Succeeded}, {0, 1, Failed}}, ReasonConsecutive},
		{"off", Config{Off: true}, 3, []step{{0, 1000, Failed}}, ""},
		{"three by config", Config{Consecutive: 3}, 3, []step{{0, 3, Failed}}, ReasonConsecutive},
		{"one by config", Config{Consecutive: 1}, 3, []step{{0, 1, Failed}}, ReasonConsecutive},

		{"half of ten, nobody to compare with", Config{}, 3, []step{{0, 5, Succeeded}, {0, 4, Failed}, {0, 1, Succeeded}, {0, 1, Failed}}, ""},
		{"half of ten", Config{}, 3, []step{{1, 40, Succeeded}, {0, 4, Failed}, {0, 5, Succeeded}, {0, 1, Failed}}, ReasonShare},
		{"half of nine", Config{}, 3, []step{{1, 40, Succeeded}, {0, 4, Failed}, {0, 4, Succeeded}, {0, 1, Failed}}, ""},
		{"less than half", Config{}, 3, []step{{1, 40, Succeeded}, {0, 4, Failed}, {0, 6, Succeeded}, {0, 1, Failed}}, ""},
		{"three of six by config", Config{MinCalls: 6}, 3, []step{{1, 40, Succeeded}, {0, 2, Failed}, {0, 3, Succeeded}, {0, 1, Failed}}, ReasonShare},
		{"a quarter by config", Config{FailureShare: 0.25, Worse: 0.2}, 3, []step{{1, 40, Succeeded}, {0, 4, Failed}, {0, 15, Succeeded}, {0, 1, Failed}}, ReasonShare},
		{"30 points worse is not enough by config", Config{Worse: 0.6}, 3, []step{{1, 40, Succeeded}, {0, 4, Failed}, {0, 5, Succeeded}, {0, 1, Failed}}, ""},
		{"the rest fails nearly as often", Config{}, 3, []step{{1, 500, Succeeded}, {1, 250, Failed}, {1, 1, Succeeded}, {0, 3, Failed}, {0, 4, Succeeded}, {0, 3, Failed}}, ""},
		{"the rest fails a fifth of the time: ten outcomes may be chance", Config{}, 3, []step{{1, 40, Succeeded}, {1, 10, Failed}, {1, 1, Succeeded}, {0, 3, Failed}, {0, 4, Succeeded}, {0, 3, Failed}}, ""},

		{"the rest fails a tenth: seven in a row", Config{}, 3, append(mixed(1, 90, 10), step{0, 6, Failed}, step{1, 1, Succeeded}, step{0, 1, Failed}), ""},
		{"the rest fails a tenth: eight in a row", Config{}, 3, append(mixed(1, 90, 10), step{0, 7, Failed}, step{1, 1, Succeeded}, step{0, 1, Failed}), ReasonConsecutive},
		{"the rest fails half: 26 in a row", Config{}, 3, append(mixed(1, 500, 500), step{0, 25, Failed}, step{1, 1, Succeeded}, step{0, 1, Failed}), ""},
		{"the rest fails half: 27 in a row", Config{}, 3, append(mixed(1, 500, 500), step{0, 26, Failed}, step{1, 1, Succeeded}, step{0, 1, Failed}), ReasonConsecutive},
		{"the rest fails all the time", Config{}, 3, []step{{1, 200, Failed}, {0, 200, Failed}}, ""},
		{"two of three", Config{}, 3, []step{{1, 5, Failed}, {0, 4, Failed}, {2, 5, Succeeded}, {0, 1, Failed}}, ReasonConsecutive},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(tt.config, tt.n)
			var change Change
			for _, s := range tt.steps {
				f.sleep(time.Millisecond)
				c := f.call(s.instance, s.n, s.outcome)
				if s.instance == 0 {
					change = c
				}
			}
			if change.Reason != tt.want || (change.Kind == Ejected) != (tt.want != "") {
				t.Errorf("came of it: %+v, want %q; state %+v", change, tt.want, f.records[0].State(f.now))
			}
			if got := f.records[0].State(f.now); got.Ejected != (tt.want != "") {
				t.Errorf("state is %+v", got)
			}
		})
	}
}

// step is n attempts at an instance.
type step struct {
	instance, n int
	outcome     Outcome
}

// mixed is what an instance does that fails some of its calls, never two of
// them one after the other.
func mixed(instance, ok, failed int) []step {
	var steps []step
	for range failed {
		steps = append(steps, step{instance, 1, Failed}, step{instance, ok / failed, Succeeded})
	}
	return steps
}
