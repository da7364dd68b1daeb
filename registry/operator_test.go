package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func overriding(t *testing.T, run func(t *testing.T, d *overridden, r *Registry, s *spy)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d, s := &overridden{fakeDriver: newFake(), values: make(chan []byte)}, &spy{}
		r := New(d, WithEvents(s.add))
		run(t, d, r, s)
		r.Close()
	})
}

func (s *spy) overrides() string {
	var told []string
	for _, e := range s.all() {
		if e, ok := e.(OverrideChanged); ok {
			told = append(told, fmt.Sprintf("%+v %v", e.Override, e.Err))
		}
	}
	return strings.Join(told, "; ")
}

func TestOverrideIsMerged(t *testing.T) {
	overriding(t, func(t *testing.T, d *overridden, r *Registry, s *spy) {
		if err := r.Announce(t.Context(), valid()); err != nil {
			t.Fatal(err)
		}
		d.values <- nil
		synctest.Wait()
		if n := len(d.arrived()); n != 1 {
			t.Errorf("%d writes without an override, want 1", n)
		}
		d.values <- []byte(`{"state":"draining","weight":7}`)
		synctest.Wait()
		last := func() Instance { all := d.arrived(); return all[len(all)-1] }
		if got := last(); got.State != Draining || got.Weight != 7 {
			t.Errorf("written: %+v, want it draining with weight 7", got)
		}
		status := r.Status()
		if status.Override == nil || *status.Override != (Override{State: Draining, Weight: 7}) || status.State != Registered {
			t.Errorf("Status = %+v, want the override", status)
		}
		// The same again is no news, and costs no write.
		n := len(d.arrived())
		d.values <- []byte(`{"weight":7,"state":"draining","since":"now"}`)
		synctest.Wait()
		if got := len(d.arrived()); got != n {
			t.Errorf("%d writes for the same override", got-n)
		}
		// It is merged with what the instance says, then and later, and when it
		// is registered again.
		inst := valid()
		inst.Version = "2"
		if err := r.Announce(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
		if got := last(); got.State != Draining || got.Weight != 7 || got.Version != "2" {
			t.Errorf("written after an update: %+v, want it draining with weight 7", got)
		}
		d.lose()
		advance(retryBase)
		synctest.Wait()
		if got := last(); len(d.attempts()) != 2 || got.State != Draining || got.Weight != 7 {
			t.Errorf("written after a loss: %+v, want it draining with weight 7", got)
		}
		// What is bad leaves the one before in force.
		d.values <- []byte(`{"weight":-7}`)
		d.values <- []byte(`{"weight":-7}`)
		synctest.Wait()
		if got := last(); got.Weight != 7 {
			t.Errorf("written after a bad override: %+v", got)
		}
		d.values <- []byte(`{}`)
		synctest.Wait()
		if got := last(); got.State != Up || got.Weight != DefaultWeight || got.Version != "2" {
			t.Errorf("written after the end of the override: %+v", got)
		}
		if got := r.Status().Override; got != nil {
			t.Errorf("Status shows %+v after the end of the override", got)
		}
		const want = "&{State:draining Weight:7} <nil>; " +
			"&{State:draining Weight:7} follow the override of orders/o-1: weight -7: must not be negative; " +
			"<nil> <nil>"
		if got := s.overrides(); got != want {
			t.Errorf("told %s\nwant %s", got, want)
		}
	})
}

func TestOverrideIsClearedWithTheInstance(t *testing.T) {
	tests := []struct {
		name  string
		value []byte
		want  int
	}{
		{"none", nil, 0},
		{"one", []byte(`{"weight":7}`), 1},
		{"a bad one", []byte(`{`), 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			overriding(t, func(t *testing.T, d *overridden, r *Registry, _ *spy) {
				if err := r.Announce(t.Context(), valid()); err != nil {
					t.Fatal(err)
				}
				d.values <- tt.value
				synctest.Wait()
				if err := r.Withdraw(t.Context(), "o-1"); err != nil {
					t.Errorf("Withdraw = %v", err)
				}
				if d.cleared != tt.want {
					t.Errorf("cleared %d times, want %d", d.cleared, tt.want)
				}
			})
		})
	}
	t.Run("error", func(t *testing.T) {
		overriding(t, func(t *testing.T, d *overridden, r *Registry, _ *spy) {
			if err := r.Announce(t.Context(), valid()); err != nil {
				t.Fatal(err)
			}
			d.values <- []byte(`{"weight":7}`)
			d.refuse = errors.New("permission denied")
			err := r.Withdraw(t.Context(), "o-1")
			if err == nil || err.Error() != "clear the override of orders/o-1: permission denied" {
				t.Errorf("Withdraw = %v, want that the override could not be cleared", err)
			}
		})
	})
}

// An instance that is registered but may not read its override says so; in an
// outage everybody knows why.
func TestOverrideCannotBeRead(t *testing.T) {
	tests := []struct {
		name string
		down error
		want string
	}{
		{"permission", nil, "<nil> follow the override of orders/o-1: permission denied; &{State: Weight:7} <nil>"},
		{"outage", errDown, "&{State: Weight:7} <nil>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			overriding(t, func(t *testing.T, d *overridden, r *Registry, s *spy) {
				d.set(tt.down, false)
				d.refuse = errors.New("permission denied")
				if err := r.Announce(t.Context(), valid()); err != nil {
					t.Fatal(err)
				}
				advance(time.Hour)
				d.mu.Lock()
				d.refuse = nil
				d.mu.Unlock()
				d.comeBack()
				d.values <- []byte(`{"weight":7}`)
				advance(time.Minute)
				if got := s.overrides(); got != tt.want {
					t.Errorf("told %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestWithdrawMarksFirst(t *testing.T) {
	tests := []struct {
		name  string
		state State
		want  string // the states that were written
	}{
		{"up", Up, "up draining"},
		{"draining already", Draining, "draining"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
				inst := valid()
				inst.State = tt.state
				if err := r.Announce(t.Context(), inst); err != nil {
					t.Fatal(err)
				}
				if err := r.Withdraw(t.Context(), inst.ID); err != nil {
					t.Fatal(err)
				}
				var states []string
				for _, inst := range d.arrived() {
					states = append(states, string(inst.State))
				}
				if got := strings.Join(states, " "); got != tt.want || d.withdrawn != 1 {
					t.Errorf("written: %s, withdrawn %d times; want %s and once", got, d.withdrawn, tt.want)
				}
			})
		})
	}
	t.Run("backend down", func(t *testing.T) {
		bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
			if err := r.Announce(t.Context(), valid()); err != nil {
				t.Fatal(err)
			}
			d.set(nil, true)
			began := time.Now()
			if err := r.Withdraw(t.Context(), "o-1"); err == nil || d.withdrawn != 1 {
				t.Errorf("Withdraw = %v with %d attempts to delete, want an error after one", err, d.withdrawn)
			}
			if took := time.Since(began); took > OperationTimeout {
				t.Errorf("Withdraw took %v, want at most %v", took, OperationTimeout)
			}
			d.set(nil, false)
		})
	})
}
