package outlier

import (
	"testing"
	"time"
)

// sick ejects an instance, and returns what came of it.
func (f *fleet) sick(t *testing.T, i int) Change {
	t.Helper()
	change := f.call(i, DefaultConsecutive, Failed)
	if change.Kind != Ejected {
		t.Fatalf("instance %d was not ejected: %+v", i, f.records[i].State(f.now))
	}
	return change
}

func TestEjectionAndReturn(t *testing.T) {
	f := newFleet(Config{}, 3)
	f.expect(t, "111")
	change := f.sick(t, 0)
	want := Change{
		Kind: Ejected, Addr: "10.0.0.0:9000", Reason: ReasonConsecutive, Until: t0.Add(DefaultBase),
		Count: 1, Calls: 5, Failures: 5, Run: 5,
	}
	if change != want {
		t.Errorf("came of it: %+v, want %+v", change, want)
	}
	state := f.records[0].State(f.now)
	if !state.Ejected || state.Until != t0.Add(DefaultBase) || state.Count != 1 || state.Reason != ReasonConsecutive || state.Share != 1 || state.Calls != 0 {
		t.Errorf("state is %+v", state)
	}
	if got := f.State(f.now); got != (Summary{Total: 3, Ejected: 1}) {
		t.Errorf("summary is %+v", got)
	}
	f.sleep(DefaultBase - 1)
	f.expect(t, "011")
	f.sleep(1)
	f.expect(t, "111") // for one trial
	trial := f.records[0].Begin(f.now)
	if !trial.Trial() {
		t.Fatal("the first attempt after the ejection is no trial")
	}
	f.expect(t, "011")
	if got := f.records[0].State(f.now); !got.Trial || !got.Ejected {
		t.Errorf("state with a trial in flight is %+v", got)
	}
	if got := f.records[0].End(f.now, trial, Succeeded); got != (Change{Kind: Returned, Addr: "10.0.0.0:9000", Reason: ReasonTrial, Count: 1}) {
		t.Errorf("came of the trial: %+v", got)
	}
	f.expect(t, "111")
	if got := f.State(f.now); got.Ejected != 0 {
		t.Errorf("summary is %+v", got)
	}
	if got := f.records[0].State(f.now); got.Ejected || got.Calls != 0 || !got.Until.IsZero() {
		t.Errorf("state after the return is %+v", got)
	}
	f.call(0, 4, Failed)
	f.expect(t, "111")
	f.call(0, 1, Failed)
	f.expect(t, "011")
}

func TestEjectionsGrowLonger(t *testing.T) {
	f := newFleet(Config{}, 3)
	until := f.sick(t, 0).Until
	for i, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute} {
		f.now = until
		change := f.call(0, 1, Failed)
		if got := change.Until.Sub(f.now); got != want || change.Kind != Ejected || change.Reason != ReasonTrial || change.Count != i+2 {
			t.Fatalf("failed trial %d: %+v, want one for %s", i+1, change, want)
		}
		until = change.Until
	}
	// A return alone does not make it short again.
	f.now = until
	f.call(0, 1, Succeeded)
	f.sleep(Forget - 1)
	if change := f.sick(t, 0); change.Until.Sub(f.now) != time.Minute || change.Count != 7 {
		t.Errorf("ejected right after a return: %+v", change)
	}
	f.sleep(time.Minute)
	f.call(0, 1, Succeeded)
	f.sleep(Forget)
	if got := f.records[0].State(f.now); got.Count != 0 || got.Reason != "" {
		t.Errorf("state a minute after the return is %+v", got)
	}
	if change := f.sick(t, 0); change.Until.Sub(f.now) != DefaultBase || change.Count != 1 {
		t.Errorf("ejected a minute after the return: %+v", change)
	}
}

func TestJitter(t *testing.T) {
	for draw, want := range map[float64]time.Duration{0: 4500 * time.Millisecond, 0.5: 5 * time.Second, 0.75: 5250 * time.Millisecond} {
		d := New(Config{}, func() float64 { return draw })
		f := &fleet{Detector: d, records: d.Update(t0, members(3)), now: t0}
		if got := f.sick(t, 0).Until.Sub(t0); got != want {
			t.Errorf("drew %v: ejected for %s, want %s", draw, got, want)
		}
	}
}

// TestTrialThatSaysNothing: a caller that gives up leaves the trial to the next
// call, and so does one that hangs.
func TestTrialThatSaysNothing(t *testing.T) {
	f := newFleet(Config{}, 3)
	f.sick(t, 0)
	f.sleep(DefaultBase)
	for range 100 {
		f.call(0, 1, Ignored)
		f.expect(t, "111")
	}
	hangs := f.records[0].Begin(f.now)
	f.expect(t, "011")
	f.sleep(DefaultMax - 1)
	f.expect(t, "011")
	f.sleep(1)
	f.expect(t, "111")
	second := f.records[0].Begin(f.now)
	f.expect(t, "011")
	if !hangs.Trial() || !second.Trial() {
		t.Fatal("these are no trials")
	}
	for _, outcome := range []Outcome{Failed, Ignored} {
		if got := f.records[0].End(f.now, hangs, outcome); got.Kind != None {
			t.Errorf("the trial that hung decided: %+v", got)
		}
		f.expect(t, "011")
	}
	if got := f.records[0].End(f.now, second, Succeeded); got.Kind != Returned {
		t.Errorf("came of the second trial: %+v", got)
	}
	f.expect(t, "111")
}

// TestTrialsThatLastLong: where attempts outlast Max and keep coming, each trial is
// overtaken by the next one, and is a good word for the instance all the same.
func TestTrialsThatLastLong(t *testing.T) {
	for name, end := range map[string]func(*Record, time.Time, Ticket) Change{
		"succeeded":        func(r *Record, now time.Time, ticket Ticket) Change { return r.End(now, ticket, Succeeded) },
		"answered, and on": (*Record).Answer,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(Config{}, 3)
			r := f.records[0]
			f.sick(t, 0)
			f.sleep(DefaultBase)
			var trials []Ticket
			for range 4 {
				trials = append(trials, r.Begin(f.now))
				f.sleep(DefaultMax)
			}
			if got := end(r, f.now, trials[1]); got.Kind != Returned || got.Reason != ReasonTrial {
				t.Fatalf("came of the trial that was overtaken: %+v", got)
			}
			f.expect(t, "111")
			for i, outcome := range []Outcome{Failed, Succeeded, Ignored, Failed} { // they began before the return
				if got := r.End(f.now, trials[i], outcome); got.Kind != None {
					t.Errorf("trial %d decided after the return: %+v", i, got)
				}
			}
			f.expect(t, "111")
			if got := r.State(f.now); got.Calls != 0 {
				t.Errorf("state after the return is %+v", got)
			}
		})
	}
}

// TestAnswerOfNoTrial: only a trial's answer says anything by itself.
func TestAnswerOfNoTrial(t *testing.T) {
	f := newFleet(Config{}, 3)
	r := f.records[0]
	early := r.Begin(f.now)
	if got := r.Answer(f.now, early); got.Kind != None || r.State(f.now).Calls != 0 {
		t.Errorf("came of it: %+v", got)
	}
	f.sick(t, 0)
	if got := r.Answer(f.now, early); got.Kind != None {
		t.Errorf("an attempt that began before the ejection decided: %+v", got)
	}
	f.expect(t, "011")
	if got := r.End(f.now, early, Succeeded); got.Kind != None {
		t.Errorf("came of its end: %+v", got)
	}
}

// TestStaleOutcomes: what began before an ejection or a return says nothing
// about what came after it.
func TestStaleOutcomes(t *testing.T) {
	f := newFleet(Config{}, 3)
	r := f.records[0]
	var before []Ticket
	for range 20 {
		before = append(before, r.Begin(f.now))
	}
	end := func(tickets []Ticket, outcome Outcome) {
		t.Helper()
		for _, ticket := range tickets {
			if got := r.End(f.now, ticket, outcome); got.Kind != None {
				t.Fatalf("a stale attempt decided: %+v", got)
			}
		}
	}
	f.sick(t, 0)
	end(before[:10], Succeeded)
	f.sleep(DefaultBase)
	trial := r.Begin(f.now)
	beside := r.Begin(f.now) // picked in the same instant
	if beside.Trial() {
		t.Fatal("there are two trials")
	}
	end(before[10:], Failed)
	if got := r.End(f.now, trial, Succeeded); got.Kind != Returned {
		t.Fatalf("came of the trial: %+v", got)
	}
	end([]Ticket{beside}, Failed)
	if got := r.State(f.now); got.Calls != 0 || got.Run != 0 {
		t.Errorf("stale outcomes were counted: %+v", got)
	}
}

func TestWindowForgets(t *testing.T) {
	f := newFleet(Config{Consecutive: 1000}, 3)
	f.call(1, 100, Succeeded)
	for range 9 { // four failures of nine
		f.call(0, 1, Failed)
	}
	f.sleep(Window - time.Second)
	if got := f.records[0].State(f.now); got.Calls != 9 || got.Run != 9 {
		t.Errorf("state at the end of the window is %+v", got)
	}
	f.sleep(time.Second)
	f.call(1, 100, Succeeded)
	f.call(0, 9, Failed)
	if got := f.records[0].State(f.now); got.Calls != 9 || got.Failures != 9 || got.Ejected {
		t.Errorf("state after the window is %+v", got)
	}
	f.call(0, 1, Failed)
	if got := f.records[0].State(f.now); !got.Ejected || got.Reason != ReasonShare {
		t.Errorf("ten failures within a window ejected nobody: %+v", got)
	}
}

func TestPanic(t *testing.T) {
	f := newFleet(Config{}, 4)
	f.sick(t, 0)
	f.call(3, 1, Succeeded)
	if change := f.sick(t, 1); change.Panic {
		t.Errorf("half of the list is panic: %+v", change)
	}
	f.expect(t, "0011")
	f.call(3, 1, Succeeded)
	if change := f.sick(t, 2); !change.Panic || change.Count != 1 {
		t.Errorf("more than half: %+v", change)
	}
	f.expect(t, "1111")
	if got := f.State(f.now); !got.Panic || got.Ejected != 3 || got.Total != 4 {
		t.Errorf("summary is %+v", got)
	}
	// Who is out gets calls, but only the trial decides.
	f.call(0, 20, Failed)
	f.call(1, 20, Succeeded)
	if got := f.State(f.now); got.Ejected != 3 || got.Calls == 0 {
		t.Errorf("summary is %+v", got)
	}
	f.sleep(DefaultBase)
	if change := f.call(0, 1, Succeeded); change.Kind != Returned || change.Panic {
		t.Errorf("came of the trial: %+v", change)
	}
	if got := f.records[0].State(f.now); got.Calls != 0 || got.Run != 0 {
		t.Errorf("what failed before the return still counts: %+v", got)
	}
	if got := f.State(f.now); got.Panic {
		t.Errorf("half of the list is panic: %+v", got)
	}
	for i := range 2 { // the trials of the others
		f.records[1+i].Begin(f.now)
	}
	f.expect(t, "1001")
}

func TestShareOfTheListThatMayBeOut(t *testing.T) {
	tests := []struct {
		n    int
		most float64
		out  int // how many are kept out at most
	}{
		{1, 0, 0},
		{2, 0, 1},
		{3, 0, 1},
		{4, 0, 2},
		{10, 0, 5},
		{10, 0.1, 1},
		{10, 0.09, 0},
		{10, 1, 9},
		{2, 1, 1},
	}
	for _, tt := range tests {
		f := newFleet(Config{MaxEjected: tt.most}, tt.n)
		most := 0
		for i := range tt.n {
			f.call(i, DefaultConsecutive, Failed)
			out := 0
			for _, r := range f.records {
				if !r.Open(f.now) {
					out++
				}
			}
			most = max(most, out)
		}
		if most != tt.out {
			t.Errorf("of %d with at most %v out: %d were kept out, want %d", tt.n, tt.most, most, tt.out)
		}
		if f.open() != "1111111111"[:tt.n] {
			t.Errorf("of %d with at most %v out: open are %s though all are sick", tt.n, tt.most, f.open())
		}
	}
}

func TestUpdate(t *testing.T) {
	f := newFleet(Config{}, 4)
	f.sick(t, 0)
	f.sick(t, 1)
	f.call(2, 3, Failed)
	old := f.records

	t.Run("state survives", func(t *testing.T) {
		f.records = f.Update(f.now, append(members(4), Member{Addr: "new"}))
		f.expect(t, "00111")
		if f.records[2] != old[2] || f.records[2].State(f.now).Run != 3 {
			t.Errorf("the record of an address that stayed is a new one: %+v", f.records[2].State(f.now))
		}
		if f.records[4].Addr() != "new" {
			t.Errorf("the new record is about %q", f.records[4].Addr())
		}
	})
	t.Run("a shorter list counts for itself", func(t *testing.T) {
		f.records = f.Update(f.now, members(3))
		f.expect(t, "111") // two of three: panic
		f.records = f.Update(f.now, members(4))
		f.expect(t, "0011")
		f.records = f.Update(f.now, members(1))
		f.expect(t, "1") // the last one
	})
	t.Run("who is gone is forgotten", func(t *testing.T) {
		f.records = f.Update(f.now, members(4))
		f.expect(t, "0111")
		f.sleep(DefaultBase)
		if got := old[1].End(f.now, old[1].Begin(f.now), Succeeded); got.Kind != None {
			t.Errorf("a record that is gone decided: %+v", got)
		}
		for range 100 {
			old[3].End(f.now, old[3].Begin(f.now), Failed)
		}
		if got := f.State(f.now); got.Ejected != 1 || got.Total != 4 {
			t.Errorf("summary is %+v", got)
		}
	})
	t.Run("another process starts afresh", func(t *testing.T) {
		list := members(4)
		list[0].Started = t0
		trial := f.records[0].Begin(f.now)
		before := f.records[0]
		f.records = f.Update(f.now, list)
		f.expect(t, "1111")
		if got := f.records[0].State(f.now); got.Count != 0 || got.Ejected {
			t.Errorf("state is %+v", got)
		}
		if got := before.End(f.now, trial, Failed); got.Kind != None {
			t.Errorf("a trial of the old process decided: %+v", got)
		}
		if got := f.State(f.now); got.Ejected != 0 {
			t.Errorf("summary is %+v", got)
		}
	})
	t.Run("twice in the list", func(t *testing.T) {
		f.records = f.Update(f.now, append(members(2), members(2)...))
		if f.records[0] != f.records[2] || f.State(f.now).Total != 2 {
			t.Errorf("summary is %+v", f.State(f.now))
		}
	})
	t.Run("empty", func(t *testing.T) {
		if got := f.Update(f.now, nil); len(got) != 0 || f.State(f.now) != (Summary{}) {
			t.Errorf("summary is %+v", f.State(f.now))
		}
	})
}

func TestConfigure(t *testing.T) {
	f := newFleet(Config{}, 4)
	f.sick(t, 0)
	stale := f.records[0].Begin(f.now)
	f.expect(t, "0111")
	f.Configure(Config{Off: true})
	f.expect(t, "1111")
	if got := f.State(f.now); !got.Off || got.Ejected != 0 {
		t.Errorf("summary is %+v", got)
	}
	f.call(1, 1000, Failed)
	f.expect(t, "1111")
	f.sleep(Window)
	f.Configure(Config{Consecutive: 2})
	f.records[0].End(f.now, stale, Failed)
	f.call(0, 1, Failed)
	f.expect(t, "1111")
	f.call(0, 1, Failed)
	f.expect(t, "0111")
	f.Configure(Config{Consecutive: 2, MaxEjected: 0.2}) // a running ejection may be too much now
	f.expect(t, "1111")
	f.Configure(Config{Consecutive: -1}) // not valid: the defaults
	f.expect(t, "0111")
	f.call(2, 4, Failed)
	f.expect(t, "0111")
	f.call(2, 1, Failed)
	f.expect(t, "0101")
}

// TestConfigureDuringTrial: a trial of an earlier ejection decides nothing about
// a later one.
func TestConfigureDuringTrial(t *testing.T) {
	f := newFleet(Config{}, 3)
	f.sick(t, 0)
	f.sleep(DefaultBase)
	trial := f.records[0].Begin(f.now)
	f.Configure(Config{Off: true})
	f.Configure(Config{})
	f.sleep(Window)
	f.sick(t, 0)
	if got := f.records[0].End(f.now, trial, Succeeded); got.Kind != None {
		t.Errorf("came of the old trial: %+v", got)
	}
	f.expect(t, "011")
}

// TestJudgedTwice: two goroutines may find the same record suspicious at once.
func TestJudgedTwice(t *testing.T) {
	f := newFleet(Config{}, 3)
	r := f.records[0]
	before := r.generation.Load()
	f.sick(t, 0)
	f.call(0, 10, Failed)
	for _, generation := range []uint32{before, r.generation.Load()} {
		if got := f.judge(f.now, r, generation); got.Kind != None {
			t.Errorf("ejected again: %+v", got)
		}
	}
	if got := f.State(f.now); got.Ejected != 1 {
		t.Errorf("summary is %+v", got)
	}
}

// TestComparisonsAreRare: in a long list the rest is not looked at for every
// failure.
func TestComparisonsAreRare(t *testing.T) {
	const n = 1100
	pause := walkPause * (n - walkFree)
	f := newFleet(Config{}, n)
	f.call(1, 1000, Failed) // ejected after five, then failing on
	for i := 2; i < n; i++ {
		f.call(i, 1, Failed)
	}
	f.call(0, DefaultConsecutive, Failed) // no worse than the rest
	for i := 1; i < n; i++ {
		f.call(i, 100, Succeeded)
	}
	f.sleep(pause - 1)
	f.call(0, 1, Failed)
	if f.records[0].State(f.now).Ejected {
		t.Fatal("compared again at once")
	}
	f.sleep(1)
	f.call(0, 1, Failed)
	if !f.records[0].State(f.now).Ejected {
		t.Errorf("not compared after %s", pause)
	}
}

// TestClock: a clock that jumps ejects nobody for longer than it would take.
func TestClock(t *testing.T) {
	f := newFleet(Config{}, 3)
	f.sleep(-time.Hour)
	f.sick(t, 0)
	f.expect(t, "011")
	f.sleep(2 * time.Hour)
	f.call(0, 1, Succeeded)
	f.expect(t, "111")
}
