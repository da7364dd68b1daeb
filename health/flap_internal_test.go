package health

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// flapper drives a damper through virtual time in steps of a second.
type flapper struct {
	damper

	now  time.Time
	well bool
}

func newFlapper() *flapper {
	f := &flapper{now: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC), well: true}
	f.observe(f.now, true)
	return f
}

// be lets time pass, well or not, and returns how long it was ready.
func (f *flapper) be(well bool, seconds int) (ready time.Duration) {
	f.well = well
	for range seconds {
		f.observe(f.now, well)
		if well && !f.holds(f.now) {
			ready += time.Second
		}
		f.now = f.now.Add(time.Second)
	}
	f.observe(f.now, well)
	return ready
}

func TestDamperForgives(t *testing.T) {
	f := newFlapper()
	// One fall, and three in a minute, again and again: nothing is held back.
	for i := range 20 {
		for range 3 {
			f.be(false, 2)
			if got := f.be(true, 8); got != 8*time.Second {
				t.Fatalf("round %d: ready for %v of 8s", i, got)
			}
		}
		f.be(true, 60)
	}
}

func TestDamperHolds(t *testing.T) {
	f := newFlapper()
	for range 3 {
		f.be(false, 1)
		f.be(true, 4)
	}
	f.be(false, 1) // the fourth within a minute
	r := f.result(f.now)
	if r.Status != StatusDown || !r.Critical || r.Name != FlappingCheck ||
		r.Error != "held back until 2026-11-21T10:00:25Z: it stopped being ready 4 times within 1m0s" {
		t.Errorf("%+v", r)
	}
	if got := f.be(true, 20); got != 11*time.Second {
		t.Errorf("ready for %v of 20 s, want all but the rest of 10 s", got)
	}
	if r := f.result(f.now); r.Status != StatusOK || r.Error != "" {
		t.Errorf("%+v after the hold", r)
	}
	// It falls again soon: twice as long, and so on, up to two minutes.
	for _, seconds := range []int{20, 40, 80, 120, 120} {
		want := time.Duration(seconds) * time.Second
		f.be(false, 1)
		begun := f.now.Add(-time.Second)
		if r := f.result(f.now); !strings.Contains(r.Error, "again within 1m0s") {
			t.Errorf("%+v", r)
		}
		for f.holds(f.now) { // it goes on flapping, which makes nothing longer
			f.be(true, 1)
			if f.holds(f.now) {
				f.be(false, 1)
			}
		}
		if got := f.now.Sub(begun); got < want || got > want+time.Second {
			t.Errorf("held back for %v, want %v", got, want)
		}
		f.be(true, 5)
	}
	// Once it was quiet for a minute it begins anew.
	f.be(true, 61)
	for range 3 {
		f.be(false, 1)
		if f.holds(f.now) {
			t.Error("held back after it was well for long")
		}
		f.be(true, 1)
	}
	f.be(false, 1)
	if got := f.be(true, 10); got != time.Second {
		t.Errorf("ready for %v of 10 s, want the first step of 10 s again", got)
	}
}

// TestDamperNeverForLong: whatever happened, what is well for a minute is ready,
// and no hold is longer than two minutes.
func TestDamperNeverForLong(t *testing.T) {
	held := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := newFlapper()
		longest := 2 + r.IntN(90)
		for range 500 {
			f.be(r.IntN(2) == 0, 1+r.IntN(longest))
			if f.holds(f.now) {
				held++
			}
			if f.holds(f.now) && f.well && f.now.Sub(f.since) >= flapWindow {
				t.Fatalf("seed %d: held back although well for %v", seed, f.now.Sub(f.since))
			}
			if f.until.Sub(f.now) > flapHoldMax || len(f.falls) > flapFalls {
				t.Fatalf("seed %d: held back for %v, %d falls kept", seed, f.until.Sub(f.now), len(f.falls))
			}
		}
		f.be(false, 1)
		if got := f.be(true, 61); got == 0 || f.holds(f.now) {
			t.Fatalf("seed %d: not ready after a minute of being well", seed)
		}
	}
	if held < 1000 {
		t.Errorf("only %d of 150000 times held back, which shows nothing", held)
	}
}
