package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// apart is a list of instances that share no address.
func apart(ids ...string) List {
	l := someList(ids...)
	for i := range l.Instances {
		l.Instances[i].Endpoints = map[string]string{"grpc": l.Instances[i].ID + ":1"}
	}
	return l
}

func shown(u update) string {
	var text strings.Builder
	text.WriteString(string(u.Source) + ":")
	for _, inst := range u.Instances {
		text.WriteString(" " + inst.ID)
		if _, ok := u.Quarantined[inst.ID]; ok {
			text.WriteString("?")
		}
	}
	return text.String()
}

// latest takes all there is and returns the last.
func (f *follower) latest() (last update) {
	for u, ok := f.next(); ok; u, ok = f.next() {
		last = u
	}
	return last
}

func TestQuarantineEnds(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, s *spy) {
		f := follow(r, "orders")
		defer f.cancel()
		synctest.Wait()
		w, _ := d.watch()
		w.emit(apart("a", "b", "c"))
		w.emit(apart("c"))
		lapsed := time.Now()
		u := f.latest()
		if got := shown(u); got != "registry: a? b? c" || !u.Quarantined["a"].Equal(lapsed.Add(-updateEvery)) {
			t.Fatalf("%s since %v, want a and b in quarantine", got, u.Quarantined)
		}
		refused := errors.New("connection refused")
		r.Drop("orders", "c", refused)
		r.Drop("billing", "a", refused)
		r.Drop("orders", "a", refused)
		if got := shown(f.latest()); got != "registry: b? c" {
			t.Errorf("after Drop: %s", got)
		}
		advance(QuarantineTime - updateEvery - time.Nanosecond)
		if u, ok := f.next(); ok {
			t.Errorf("%s just before the quarantine is over", shown(u))
		}
		advance(time.Second)
		if got := shown(f.latest()); got != "registry: c" {
			t.Errorf("%s after the quarantine is over", got)
		}
		var told []string
		for _, e := range s.all() {
			told = append(told, fmt.Sprintf("%T %+v", e, e))
		}
		want := []string{
			"registry.InstancesLapsed {Service:orders IDs:[a b]}",
			"registry.MassLapse {Service:orders Gone:2 Of:3}",
			"registry.InstanceDropped {Service:orders ID:a Absent:100ms Err:connection refused}",
			"registry.InstanceDropped {Service:orders ID:b Absent:15m0s Err:not in the registry for 15m0s}",
		}
		if got := strings.Join(told, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("told:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
		}
	})
}

// Nobody can come back to a backend that is down, so nobody is late.
func TestQuarantineWaitsForTheBackend(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		f := follow(r, "orders")
		defer f.cancel()
		synctest.Wait()
		w, _ := d.watch()
		w.emit(apart("a", "b"))
		w.emit(apart())
		d.set(errDown, false)
		w.fail <- errDown
		advance(3 * QuarantineTime)
		if u := f.latest(); shown(u) != "registry: a? b?" || u.err == nil {
			t.Errorf("in a long outage: %s, error %v", shown(u), u.err)
		}
		d.comeBack()
		advance(returnSpread)
		synctest.Wait()
		w, _ = d.watch()
		w.emit(apart("a"))
		if got := shown(f.latest()); got != "registry: a b?" {
			t.Errorf("just after the return: %s, want b to have some time", got)
		}
		advance(returnGrace)
		if got := shown(f.latest()); got != "registry: a" {
			t.Errorf("%v after the return: %s", returnGrace, got)
		}
	})
}

func TestUpdatesArePaced(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		f := follow(r, "orders")
		defer f.cancel()
		synctest.Wait()
		w, _ := d.watch()
		began := time.Now()
		first := make(chan struct{})
		go func() {
			defer close(first)
			w.emit(apart("a"))
		}()
		if u, ok := f.next(); !ok || len(u.Instances) != 1 || time.Since(began) > 0 {
			t.Errorf("the first change took %v: %s", time.Since(began), shown(u))
		}
		<-first
		if took := time.Since(began); took != updateEvery {
			t.Errorf("emit held the driver for %v, want %v", took, updateEvery)
		}
		// An unchanged list does not.
		began = time.Now()
		w.emit(apart("a"))
		if took := time.Since(began); took > 0 {
			t.Errorf("emit of an unchanged list held the driver for %v", took)
		}
		// Nor does one of nobody: who comes next is waited for.
		drained := apart("a")
		drained.Instances[0].State = Draining
		w.emit(drained)
		began = time.Now()
		w.emit(apart())
		if took := time.Since(began); took > 0 {
			t.Errorf("emit of an empty list held the driver for %v", took)
		}
		// Nor does a watch that has ended.
		f.cancel()
		synctest.Wait()
		w.emit(apart("a", "b"))
		if took := time.Since(began); took > 0 {
			t.Errorf("emit held the driver for %v after the end of the watch", took)
		}
	})
}

func TestCurrent(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		if s, ok := r.Current("orders"); ok {
			t.Errorf("Current of what nobody watches: %+v", s)
		}
		f := follow(r, "orders")
		defer f.cancel()
		synctest.Wait()
		if s, ok := r.Current("orders"); ok {
			t.Errorf("Current before the first list: %+v", s)
		}
		w, _ := d.watch()
		w.emit(apart("a"))
		f.next()
		advance(time.Hour)
		if s, ok := r.Current("orders"); !ok || len(s.Instances) != 1 || !s.At.Equal(time.Now()) {
			t.Errorf("Current of a healthy watch: %+v, want it of now", s)
		}
		confirmed := time.Now()
		w.emit(apart("a"))
		d.set(errDown, false)
		w.fail <- errDown
		advance(time.Hour)
		if s, ok := r.Current("orders"); !ok || !s.At.Equal(confirmed) {
			t.Errorf("Current in an outage: of %v, want of %v", s.At, confirmed)
		}
	})
}

// starting runs a test with a registry that keeps lists in a directory.
func starting(t *testing.T, opts []Option, run func(t *testing.T, d *fakeDriver, r *Registry, s *spy, dir string)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, s := newFake(), &spy{}
		r := New(d, append([]Option{WithEvents(s.add), WithSnapshots(dir)}, opts...)...)
		run(t, d, r, s, dir)
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

func writeList(t *testing.T, dir string, s stored) string {
	t.Helper()
	d := &disk{dir: dir, kind: s.Kind, scope: s.Scope}
	err := d.save(Snapshot{Service: s.Service, At: s.At, Instances: s.Instances, Quarantined: s.Quarantined})
	if err != nil {
		t.Fatal(err)
	}
	return d.path(s.Service)
}

func TestStartFromDisk(t *testing.T) {
	tests := []struct {
		name string
		fail bool // the backend answers with an error; else it does not answer
		wait time.Duration
	}{
		{"error", true, 0},
		{"silence", false, startPatience},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			starting(t, nil, func(t *testing.T, d *fakeDriver, r *Registry, s *spy, dir string) {
				at := time.Now().Add(-time.Hour)
				since := at.Add(-time.Minute)
				path := writeList(t, dir, stored{
					Kind: "fake", Service: "orders", At: at,
					Instances:   apart("a", "b", "c").Instances,
					Quarantined: map[string]time.Time{"c": since},
				})
				if tt.fail {
					d.set(errDown, false)
				}
				f := follow(r, "orders")
				defer f.cancel()
				advance(tt.wait - time.Nanosecond)
				if u, ok := f.next(); ok && !tt.fail {
					t.Fatalf("%s before the backend was given its time", shown(u))
				}
				advance(time.Second)
				u := f.latest()
				if got := shown(u); got != "snapshot: a b c?" || !u.At.Equal(at) || !u.Quarantined["c"].Equal(since) || (u.err != nil) != tt.fail {
					t.Fatalf("%s of %v with error %v, want the list on disk", got, u.At, u.err)
				}
				if c, ok := r.Current("orders"); !ok || !c.At.Equal(at) {
					t.Errorf("Current: of %v, want of %v", c.At, at)
				}
				// It is not written again as if it were of now.
				before, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				advance(2 * refreshEvery)
				if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
					t.Errorf("the file became %s, %v; want it as it was", after, err)
				}
				if tt.fail {
					d.comeBack()
					advance(time.Second)
				}
				synctest.Wait()
				w, _ := d.watch()
				w.emit(apart("a", "d"))
				if got := shown(f.latest()); got != "registry: a b? c? d" {
					t.Errorf("after the first list of the backend: %s", got)
				}
				for _, e := range s.all() {
					switch e.(type) {
					case MassLapse, SnapshotRejected, SnapshotFailed:
						t.Errorf("told %T %+v", e, e)
					}
				}
			})
		})
	}
}

func TestBackendIsFasterThanDisk(t *testing.T) {
	starting(t, nil, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy, dir string) {
		writeList(t, dir, stored{Kind: "fake", Service: "orders", At: time.Now(), Instances: apart("old").Instances})
		f := follow(r, "orders")
		defer f.cancel()
		synctest.Wait()
		w, _ := d.watch()
		w.emit(apart("a"))
		advance(time.Hour)
		if got := shown(f.latest()); got != "registry: a" {
			t.Errorf("%s, want nothing from the disk", got)
		}
	})
}

func TestStartFromFallback(t *testing.T) {
	bad := valid()
	bad.Endpoints = nil
	other := valid()
	other.Service = "billing"
	lists := map[string][]Instance{"orders": append(apart("b", "a", "a").Instances, bad, other)}
	lists["orders"][0].Service = ""
	starting(t, []Option{WithFallback(lists)}, func(t *testing.T, d *fakeDriver, r *Registry, s *spy, dir string) {
		path := writeList(t, dir, stored{Kind: "fake", Service: "orders", At: time.Now().Add(-25 * time.Hour), Instances: apart("old").Instances})
		d.set(errDown, false)
		f := follow(r, "orders")
		defer f.cancel()
		u := f.latest()
		if got := shown(u); got != "fallback: a b" || !u.At.IsZero() || u.err == nil || len(u.Skipped) != 3 {
			t.Errorf("%s of %v, skipped %v, error %v; want the fallback", got, u.At, u.Skipped, u.err)
		}
		rejected := 0
		for _, e := range s.all() {
			if e, ok := e.(SnapshotRejected); ok {
				rejected++
				if e.Path != path || !strings.Contains(e.Err.Error(), "older than 24h") {
					t.Errorf("told %+v, want that the file is too old", e)
				}
			}
		}
		if rejected != 1 {
			t.Errorf("told %d times that the file is not used, want once", rejected)
		}
		d.comeBack()
		advance(time.Second)
		synctest.Wait()
		w, _ := d.watch()
		w.emit(apart())
		if got := shown(f.latest()); got != "registry:" {
			t.Errorf("after the first list of the backend: %s, want nobody of the fallback", got)
		}
	})
}

func TestKeepsListsOnDisk(t *testing.T) {
	starting(t, nil, func(t *testing.T, d *fakeDriver, r *Registry, s *spy, dir string) {
		path := filepath.Join(dir, "fake", "orders.json")
		read := func() (time.Time, string) {
			t.Helper()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeStored(data, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return got.At, shown(update{Snapshot: Snapshot{Instances: got.Instances, Quarantined: got.Quarantined}})
		}
		f := follow(r, "orders")
		defer f.cancel()
		synctest.Wait()
		w, _ := d.watch()
		w.emit(apart("a"))
		if _, got := read(); got != ": a" {
			t.Errorf("on disk: %s", got)
		}
		// At most once a second, and then the latest.
		w.emit(apart("a", "b"))
		if _, got := read(); got != ": a" {
			t.Errorf("on disk within the same second: %s", got)
		}
		w.emit(apart("a", "c"))
		advance(saveEvery)
		synctest.Wait()
		if _, got := read(); got != ": a b? c" {
			t.Errorf("on disk a second later: %s", got)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file has mode %v, %v; want it readable by its owner only", info.Mode(), err)
		}
		// An unchanged list stays young, until the backend fails.
		advance(2 * refreshEvery)
		synctest.Wait()
		if at, _ := read(); time.Since(at) > refreshEvery {
			t.Errorf("the file is of %v ago, want less than %v", time.Since(at), refreshEvery)
		}
		d.set(errDown, false)
		confirmed := time.Now()
		w.emit(apart("a", "c"))
		w.fail <- errDown
		advance(3 * refreshEvery)
		synctest.Wait()
		if at, _ := read(); at.After(confirmed) {
			t.Errorf("the file is of %v, after the backend began to fail at %v", at, confirmed)
		}
		// What happened last is written at the end.
		r.Drop("orders", "b", errDown)
		f.cancel()
		synctest.Wait()
		if _, got := read(); got != ": a c" {
			t.Errorf("on disk after the end of the watch: %s", got)
		}
		if rest, err := filepath.Glob(filepath.Join(dir, "fake", ".*")); err != nil || len(rest) > 0 {
			t.Errorf("left over: %v, %v", rest, err)
		}
	})
}

func TestDiskThatCannotBeWritten(t *testing.T) {
	starting(t, nil, func(t *testing.T, d *fakeDriver, r *Registry, s *spy, dir string) {
		blocker := filepath.Join(dir, "fake")
		if err := os.WriteFile(blocker, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		f := follow(r, "orders")
		defer f.cancel()
		synctest.Wait()
		w, _ := d.watch()
		for _, ids := range [][]string{{"a"}, {"a", "b"}, {"a", "b", "c"}} {
			w.emit(apart(ids...))
			advance(2 * saveEvery)
		}
		failed := func() (n int) {
			for _, e := range s.all() {
				if e, ok := e.(SnapshotFailed); ok && e.Err != nil && strings.HasSuffix(e.Path, "orders.json") {
					n++
				}
			}
			return n
		}
		if n := failed(); n != 1 {
			t.Errorf("told %d times that the list cannot be written, want once", n)
		}
		if err := os.Remove(blocker); err != nil {
			t.Fatal(err)
		}
		w.emit(apart("a"))
		advance(2 * saveEvery)
		if _, err := os.Stat(filepath.Join(blocker, "orders.json")); err != nil {
			t.Errorf("the list is not written once it can be: %v", err)
		}
	})
}
