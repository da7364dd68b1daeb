package breaker

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// send makes n attempts that end with outcome, and counts those that are let.
func send(b Breaker, n int, outcome Outcome) int {
	sent := 0
	for range n {
		if p, err := b.Allow(time.Now()); err == nil {
			sent++
			b.Done(time.Now(), p, outcome)
		}
	}
	return sent
}

// sleep lets the time of a synctest bubble pass.
func sleep(d time.Duration) { <-time.After(d) }

func TestClassicOpens(t *testing.T) {
	type step struct {
		n       int
		outcome Outcome
	}
	tests := []struct {
		name  string
		steps []step
		open  bool
	}{
		{"nothing", nil, false},
		{"19 refused", []step{{19, Refused}}, false},
		{"20 refused", []step{{20, Refused}}, true},
		{"20 failed", []step{{20, Failed}}, true},
		{"10 refused, 10 failed", []step{{10, Refused}, {10, Failed}}, true},
		{"just half", []step{{10, Accepted}, {10, Failed}}, false},
		{"one more than half", []step{{10, Accepted}, {11, Failed}}, true},
		{"half of many", []step{{500, Accepted}, {500, Failed}}, false},
		{"cancel storm", []step{{1000, Neutral}, {10, Accepted}}, false},
		{"cancelled do not count", []step{{19, Neutral}, {19, Failed}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := New(Config{Policy: PolicyClassic}, time.Now(), nil)
			for _, s := range tt.steps {
				send(b, s.n, s.outcome)
			}
			if got := b.State(time.Now()); (got.Phase == Open) != tt.open {
				t.Errorf("state is %+v, want open %v", got, tt.open)
			}
		})
	}
}

// TestClassicWindow: failures that are spread over more than the window do not
// open it.
func TestClassicWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Policy: PolicyClassic}, time.Now(), nil)
		for range 60 {
			if send(b, 1, Failed) != 1 {
				t.Fatalf("opened: %+v", b.State(time.Now()))
			}
			sleep(Window / 15)
		}
		if got := b.State(time.Now()); got.Sent > 16 || got.Sent != got.Failed {
			t.Errorf("state is %+v, want the failures of the window", got)
		}
	})
}

// TestClassicWindowSlides: failures within the window count wherever it began.
func TestClassicWindowSlides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Policy: PolicyClassic}, time.Now(), nil)
		sleep(Window - time.Second)
		send(b, 12, Failed)
		sleep(2 * time.Second)
		send(b, 8, Failed)
		if got := b.State(time.Now()); got.Phase != Open || got.Failed != 20 {
			t.Errorf("state after 20 failures in two seconds is %+v", got)
		}
	})
}

func TestClassicLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Policy: PolicyClassic}, time.Now(), nil)
		stale, err := b.Allow(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		opened := time.Now()
		send(b, 20, Failed)
		want := State{
			Policy: PolicyClassic, Phase: Open, Sent: 20, Failed: 20, Reject: 1,
			Since: opened, Until: opened.Add(DefaultOpenFor), MaxTrials: DefaultTrials,
		}
		if got := b.State(time.Now()); got != want {
			t.Fatalf("state is\n%+v, want\n%+v", got, want)
		}
		sleep(12 * time.Second)
		_, err = b.Allow(time.Now())
		rejection, ok := errors.AsType[*Rejection](err)
		if !ok || rejection.State != want || rejection.At != time.Now() {
			t.Fatalf("the error is %#v", err)
		}
		if text := "open for 12s after 20 of 20 attempts failed, tries again in 18s"; err.Error() != text {
			t.Errorf("the error says %q, want %q", err, text)
		}

		// Half-open: a trial that fails opens it again.
		sleep(DefaultOpenFor)
		if got := b.State(time.Now()); got.Phase != HalfOpen || got.Reject != 0 || got.Sent != 20 {
			t.Fatalf("state is %+v, want half-open", got)
		}
		b.Done(time.Now(), stale, Accepted) // began before: says nothing
		if got := send(b, 5, Refused); got != 1 {
			t.Fatalf("%d were sent, the first should have opened it", got)
		}
		if got := b.State(time.Now()); got.Phase != Open || got.Since != time.Now() {
			t.Fatalf("state is %+v, want open since now", got)
		}

		// Half-open again: three trials, of which one says nothing.
		sleep(DefaultOpenFor + time.Second)
		var trials []Permit
		for range DefaultTrials {
			p, err := b.Allow(time.Now())
			if err != nil {
				t.Fatalf("a trial was rejected: %v", err)
			}
			trials = append(trials, p)
		}
		_, err = b.Allow(time.Now())
		if err == nil || !strings.HasSuffix(err.Error(), "all 3 trials in use") {
			t.Fatalf("a fourth trial: %v", err)
		}
		if got := b.State(time.Now()); got.Trials != 3 || got.Reject != 1 {
			t.Errorf("state is %+v, want 3 trials", got)
		}
		b.Done(time.Now(), trials[0], Neutral)
		p, err := b.Allow(time.Now())
		if err != nil {
			t.Fatalf("a cancelled trial did not give its place back: %v", err)
		}
		for _, p := range []Permit{trials[1], trials[2], p} {
			if got := b.State(time.Now()); got.Phase != HalfOpen {
				t.Errorf("state is %+v, want half-open", got)
			}
			b.Done(time.Now(), p, Accepted)
		}
		if got := b.State(time.Now()); got.Phase != Closed || got.Sent != 0 || got.Reject != 0 {
			t.Errorf("state after three good trials is %+v, want closed", got)
		}
		if got := send(b, 100, Accepted); got != 100 {
			t.Errorf("%d of 100 were sent", got)
		}
	})
}

// TestClassicTrialThatNeverEnds: streams that last for days must not keep the
// breaker half-open for days.
func TestClassicTrialThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Policy: PolicyClassic, Trials: 1, OpenFor: time.Second}, time.Now(), nil)
		send(b, 20, Failed)
		sleep(1001 * time.Millisecond)
		stream, err := b.Allow(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := send(b, 10, Accepted); got != 0 {
			t.Fatalf("%d were sent beside the trial", got)
		}
		sleep(1001 * time.Millisecond)
		if got := send(b, 10, Accepted); got != 10 {
			t.Errorf("%d of 10 were sent after the stream's time was over, state is %+v", got, b.State(time.Now()))
		}
		b.Done(time.Now(), stream, Failed)
		if got := b.State(time.Now()); got.Phase != Closed || got.Failed != 0 {
			t.Errorf("the end of a stream that had lost its place left %+v", got)
		}
	})
}

// TestClassicLateTrial: a trial that has lost its place says nothing any more.
func TestClassicLateTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Policy: PolicyClassic, Trials: 2, OpenFor: time.Second}, time.Now(), nil)
		send(b, 20, Failed)
		sleep(1001 * time.Millisecond)
		var permits []Permit
		for range 3 { // two streams, and one after their time is over
			p, err := b.Allow(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			permits = append(permits, p)
			if len(permits) == 2 {
				sleep(1001 * time.Millisecond)
			}
		}
		b.Done(time.Now(), permits[0], Accepted)
		b.Done(time.Now(), permits[2], Accepted)
		if got := b.State(time.Now()); got.Phase != HalfOpen || got.Trials != 1 {
			t.Errorf("state after one good trial of two is %+v", got)
		}
		b.Done(time.Now(), permits[1], Failed)
		if got := b.State(time.Now()); got.Phase != HalfOpen {
			t.Errorf("a late failure opened it: %+v", got)
		}
		send(b, 1, Accepted)
		if got := b.State(time.Now()); got.Phase != Closed {
			t.Errorf("state after two good trials is %+v", got)
		}
	})
}

func TestClassicConcurrent(t *testing.T) {
	b := New(Config{Policy: PolicyClassic, OpenFor: time.Nanosecond}, time.Now(), nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				if p, err := b.Allow(time.Now()); err == nil {
					_ = b.State(time.Now())
					b.Done(time.Now(), p, Outcome((g+i/100)%4))
				}
			}
		})
	}
	wg.Wait()
	if trials := b.(*classic).trials; len(trials) != 0 {
		t.Errorf("%d trials are left though all have ended", len(trials))
	}
	for range 100 { // whatever state it is in, good answers close it
		send(b, 10, Accepted)
	}
	if got := b.State(time.Now()); got.Phase != Closed {
		t.Errorf("state is %+v, want closed", got)
	}
}

func BenchmarkClassic(b *testing.B) {
	br := New(Config{Policy: PolicyClassic}, time.Now(), nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			now := time.Now()
			if p, err := br.Allow(now); err == nil {
				br.Done(now, p, Accepted)
			}
		}
	})
}
