package registry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test in a synctest bubble with a registry on a fake driver.
func bubble(t *testing.T, run func(t *testing.T, d *fakeDriver, r *Registry, s *spy)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d, s := newFake(), &spy{}
		r := New(d, WithEvents(s.add))
		run(t, d, r, s)
		r.Close()
		if d.closed != 1 {
			t.Errorf("the driver was closed %d times, want once", d.closed)
		}
	})
}

func TestRegistersForEver(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, s *spy) {
		d.set(errDown, false)
		if err := r.Announce(t.Context(), valid()); err != nil {
			t.Fatalf("Announce while the backend is down: %v", err)
		}
		began := time.Now()
		advance(24 * time.Hour) // virtual
		attempts := d.attempts()
		// Full jitter up to 5 s: 2.5 s on average.
		if n := len(attempts); n < 30_000 || n > 40_000 {
			t.Errorf("%d attempts in a day, want about 34560", n)
		}
		last := began
		for _, at := range attempts {
			if gap := at.Sub(last); gap > retryMax {
				t.Fatalf("no attempt for %v, want at most %v", gap, retryMax)
			}
			last = at
		}
		if early := len(attempts); early > 0 && attempts[1].Sub(attempts[0]) > retryBase {
			t.Errorf("second attempt after %v, want at most %v", attempts[1].Sub(attempts[0]), retryBase)
		}
		status := r.Status()
		if status.State != Registering || !errors.Is(status.Err, errDown) || !status.Since.Equal(began) {
			t.Errorf("Status = %+v, want registering since the start and why", status)
		}

		d.set(nil, false)
		advance(retryMax)
		synctest.Wait()
		if got := r.Status(); got.State != Registered || got.Err != nil {
			t.Errorf("Status = %+v after the return, want registered", got)
		}
		// A day of failures is one event, the end of it another.
		var changes []AnnouncementChanged
		for _, e := range s.all() {
			changes = append(changes, e.(AnnouncementChanged))
		}
		if len(changes) != 2 || changes[0].To != Registering || !errors.Is(changes[0].Err, errDown) ||
			changes[1].From != Registering || changes[1].To != Registered || changes[1].Err != nil {
			t.Errorf("events %+v, want a failure and a success", changes)
		}
	})
}

func TestBackendTellsThatItIsBack(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		d.set(errDown, false)
		if err := r.Announce(t.Context(), valid()); err != nil {
			t.Fatal(err)
		}
		advance(time.Hour)
		d.comeBack()
		advance(returnSpread)
		synctest.Wait()
		if got := r.Status().State; got != Registered {
			t.Errorf("state %v after the backend told that it is back = %q, want registered", returnSpread, got)
		}
	})
}

func TestAnnounceWaitsForTheFirstAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		d.set(nil, true)
		began := time.Now()
		if err := r.Announce(t.Context(), valid()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != OperationTimeout {
			t.Errorf("Announce took %v while the backend hangs, want %v", took, OperationTimeout)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if err := r.Announce(ctx, valid()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("an update took %v, want no longer than its context", took)
		}
	})
}

func TestUpdateIsRetriedAndNewestWins(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		inst := valid()
		if err := r.Announce(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
		d.set(errDown, false)
		for weight := 1; weight <= 3; weight++ {
			inst.Weight = weight
			if err := r.Announce(t.Context(), inst); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.Status(); got.State != Registered || !errors.Is(got.Err, errDown) {
			t.Errorf("Status = %+v while updates fail, want registered and why", got)
		}
		d.set(nil, false)
		advance(retryMax)
		synctest.Wait()
		got := d.arrived()
		if len(got) != 2 || got[1].Weight != 3 {
			t.Errorf("arrived: %+v; want the first and the newest", got)
		}
		if got := r.Status().Err; got != nil {
			t.Errorf("error %v after the update arrived", got)
		}
		if n := len(d.attempts()); n != 1 {
			t.Errorf("%d registrations, want 1", n)
		}
	})
}

func TestAnnounceKeepsItsOwnCopy(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		d.set(errDown, false)
		inst := valid()
		if err := r.Announce(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
		inst.Endpoints["grpc"] = "changed:1"
		d.comeBack()
		advance(returnSpread)
		synctest.Wait()
		if got := d.arrived(); len(got) != 1 || !got[0].Equal(valid().withDefaults()) {
			t.Errorf("arrived: %+v, want what was announced", got)
		}
	})
}

func TestLostEntry(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, s *spy) {
		if err := r.Announce(t.Context(), valid()); err != nil {
			t.Fatal(err)
		}
		advance(time.Minute)
		d.set(errDown, false)
		d.lose()
		synctest.Wait()
		lost := time.Now()
		advance(time.Hour)
		if got := r.Status(); got.State != Lost || got.Err == nil || !got.Since.Equal(lost) {
			t.Errorf("Status = %+v, want lost since %v and why", got, lost)
		}
		d.comeBack()
		advance(returnSpread)
		synctest.Wait()
		if got := r.Status(); got.State != Registered || got.Err != nil {
			t.Errorf("Status = %+v after the return, want registered", got)
		}
		var phases []Phase
		for _, e := range s.all() {
			phases = append(phases, e.(AnnouncementChanged).To)
		}
		if len(phases) != 3 || phases[0] != Registered || phases[1] != Lost || phases[2] != Registered {
			t.Errorf("phases %v, want registered, lost, registered", phases)
		}
		// The driver cleared away what was lost; only the end withdraws.
		if d.withdrawn != 0 {
			t.Errorf("%d withdrawals of a lost entry, want none", d.withdrawn)
		}
	})
}

// An entry that is not kept alive is told long before it is lost, and stays what it is
// until then.
func TestDoubt(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, s *spy) {
		inst := valid()
		if err := r.Announce(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
		since := r.Status().Since
		advance(time.Minute)
		d.doubt(errDown)
		synctest.Wait()
		if got := r.Status(); got.State != Registered || !errors.Is(got.Err, errDown) || !got.Since.Equal(since) {
			t.Errorf("Status = %+v, want registered, with the doubt", got)
		}
		advance(time.Minute)
		inst.Weight++
		if err := r.Announce(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := r.Status(); !errors.Is(got.Err, errDown) {
			t.Errorf("Status = %+v after an update, want the doubt still", got)
		}
		d.doubt(nil)
		synctest.Wait()
		if got := r.Status(); got.State != Registered || got.Err != nil {
			t.Errorf("Status = %+v, want registered without a doubt", got)
		}
		if n := len(d.attempts()); n != 1 || len(d.arrived()) != 2 {
			t.Errorf("%d registrations and %d writes, want one and the update", n, len(d.arrived()))
		}
		var errs []bool
		for _, e := range s.all() {
			errs = append(errs, e.(AnnouncementChanged).Err != nil)
		}
		if len(errs) != 3 || errs[0] || !errs[1] || errs[2] {
			t.Errorf("told with errors: %v, want the doubt and its end once each", errs)
		}
	})
}

// A doubt about one of several announcements is not hidden by the others.
func TestStatusHasTheDoubt(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		for _, id := range []string{"a", "b"} {
			inst := valid()
			inst.ID = id
			if err := r.Announce(t.Context(), inst); err != nil {
				t.Fatal(err)
			}
		}
		d.doubt(errDown) // about the last one
		synctest.Wait()
		if got := r.Status(); got.State != Registered || !errors.Is(got.Err, errDown) {
			t.Errorf("Status = %+v, want the doubt", got)
		}
	})
}

// Two processes with one ID take the entry away from each other for ever.
func TestLossesInARowBackOff(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		if err := r.Announce(t.Context(), valid()); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); advance(time.Millisecond) {
			synctest.Wait()
			if r.Status().State == Registered {
				d.lose()
				synctest.Wait()
			}
		}
		// At 2.5 s on average it is 240, at the first wait it would be 6000.
		if n := len(d.attempts()); n < 150 || n > 400 {
			t.Errorf("%d registrations in 10 minutes of losses, want about 250", n)
		}
		// One that has lived for a TTL is put back quickly again.
		for r.Status().State != Registered {
			advance(time.Millisecond)
		}
		advance(DefaultTTL)
		d.lose()
		advance(retryBase)
		synctest.Wait()
		if got := r.Status().State; got != Registered {
			t.Errorf("state %v after a single loss = %q, want registered", retryBase, got)
		}
	})
}

func TestWithdrawIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		if err := r.Announce(t.Context(), valid()); err != nil {
			t.Fatal(err)
		}
		d.set(nil, true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := r.Withdraw(ctx, "o-1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Withdraw = %v, want its context's error", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("Withdraw took %v, want 1s", took)
		}
		// Announcing meanwhile waits for the end of the withdrawal.
		if err := r.Announce(t.Context(), valid()); err != nil {
			t.Fatal(err)
		}
		if n := len(d.attempts()); n != 2 {
			t.Errorf("%d registrations, want a second one", n)
		}
		d.set(nil, false)
	})
}

func TestCloseIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		for _, id := range []string{"a", "b", "c"} {
			inst := valid()
			inst.ID = id
			if err := r.Announce(t.Context(), inst); err != nil {
				t.Fatal(err)
			}
		}
		d.set(nil, true)
		began := time.Now()
		err := r.Close()
		if err == nil || err.Error() != r.Close().Error() {
			t.Errorf("Close = %v, then %v; want the withdrawals' errors both times", err, r.Close())
		}
		if took := time.Since(began); took != OperationTimeout {
			t.Errorf("Close took %v, want %v for all three at once", took, OperationTimeout)
		}
	})
}

func TestStatusIsTheWorst(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		if got := r.Status(); got.State != Off || got.Kind != "fake" || got.TTL != DefaultTTL || got.Since.IsZero() {
			t.Errorf("Status = %+v at first, want off", got)
		}
		a, b := valid(), valid()
		a.ID, b.ID = "a", "b"
		if err := r.Announce(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		d.set(errDown, false)
		if err := r.Announce(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if got := r.Status().State; got != Registering {
			t.Errorf("state of one registered and one not = %q, want registering", got)
		}
		d.lose()
		synctest.Wait()
		if got := r.Status().State; got != Lost {
			t.Errorf("state of one lost and one registering = %q, want lost", got)
		}
	})
}

func TestWithTTL(t *testing.T) {
	tests := []struct{ ttl, want time.Duration }{
		{0, DefaultTTL},
		{-1, MinTTL},
		{time.Millisecond, time.Second},
		{1500 * time.Millisecond, 2 * time.Second},
		{time.Minute, time.Minute},
	}
	for _, tt := range tests {
		r := New(newFake(), WithTTL(tt.ttl), WithEvents(nil))
		if got := r.Status().TTL; got != tt.want {
			t.Errorf("WithTTL(%v) gives %v, want %v", tt.ttl, got, tt.want)
		}
		r.Close()
	}
}
