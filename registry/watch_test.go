package registry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func someList(ids ...string) List {
	var l List
	for _, id := range ids {
		inst := valid().withDefaults()
		inst.ID = id
		l.Instances = append(l.Instances, inst)
	}
	return l
}

// follower is a consumer that takes one update per call of next.
type follower struct {
	updates chan update
	cancel  context.CancelFunc
}

type update struct {
	Snapshot

	err error
}

func follow(r *Registry, service string) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{updates: make(chan update), cancel: cancel}
	go func() {
		defer close(f.updates)
		for snapshot, err := range r.Watch(ctx, service) {
			select {
			case f.updates <- update{snapshot, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return f
}

// next returns what there is to take, without waiting.
func (f *follower) next() (update, bool) {
	synctest.Wait()
	select {
	case u, ok := <-f.updates:
		return u, ok
	default:
		return update{}, false
	}
}

func TestWatchIsShared(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		a, b := follow(r, "orders"), follow(r, "orders")
		synctest.Wait()
		w, n := d.watch()
		if n != 1 {
			t.Fatalf("%d watches of the backend for two watchers, want 1", n)
		}
		w.emit(someList("b", "a"))
		for _, f := range []*follower{a, b} {
			u, ok := f.next()
			if !ok || u.err != nil || len(u.Instances) != 2 || u.Instances[0].ID != "a" {
				t.Errorf("first update %+v, want the sorted list", u)
			}
			if u, ok := f.next(); ok {
				t.Errorf("a second update without a change: %+v", u)
			}
		}
		late := follow(r, "orders")
		if u, ok := late.next(); !ok || len(u.Instances) != 2 {
			t.Errorf("a late watcher got %+v, want the current list at once", u)
		}
		a.cancel()
		b.cancel()
		synctest.Wait()
		select {
		case <-w.done:
			t.Error("the watch of the backend ended while there is a watcher")
		default:
		}
		late.cancel()
		synctest.Wait()
		select {
		case <-w.done:
		default:
			t.Error("the watch of the backend goes on without a watcher")
		}
		again := follow(r, "orders")
		synctest.Wait()
		if _, n := d.watch(); n != 2 {
			t.Errorf("%d watches after a new watcher, want 2", n)
		}
		again.cancel()
	})
}

func TestWatchCoalesces(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		f := follow(r, "orders")
		synctest.Wait()
		w, _ := d.watch()
		w.emit(someList("a"))
		synctest.Wait() // the consumer holds this one and does not come back
		for range 100 {
			w.emit(someList("a", "b"))
			w.emit(someList("a", "b", "c"))
		}
		f.next()
		if u, ok := f.next(); !ok || len(u.Instances) != 3 {
			t.Errorf("after a pause: %+v, want the latest list", u)
		}
		if u, ok := f.next(); ok {
			t.Errorf("a queue was kept for a slow consumer: %+v", u)
		}
		f.cancel()
	})
}

func TestConfirmedListWakesNobody(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		f := follow(r, "orders")
		synctest.Wait()
		w, _ := d.watch()
		w.emit(someList("a"))
		f.next()
		advance(time.Minute)
		confirmed := time.Now()
		again := someList("a")
		again.Revision = 7
		w.emit(again)
		if u, ok := f.next(); ok {
			t.Errorf("an unchanged list was yielded: %+v", u)
		}
		w.fail <- errDown
		if u, _ := f.next(); u.err == nil || !u.At.Equal(confirmed) || u.Revision != 7 {
			t.Errorf("beside the error: list of %v, revision %d; want the time and revision of the confirmation", u.At, u.Revision)
		}
		f.cancel()
	})
}

func TestWatchKeepsLastGood(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, s *spy) {
		f := follow(r, "orders")
		synctest.Wait()
		w, _ := d.watch()
		w.emit(someList("a"))
		f.next()
		d.set(errDown, false)
		w.fail <- errors.New("stream broke")
		failed := time.Now()
		advance(time.Hour)
		u, ok := f.next()
		if !ok || u.err == nil || len(u.Instances) != 1 {
			t.Errorf("in the outage: %+v, want an error and the last good list", u)
		}
		if _, n := d.watch(); n < 1000 || n > 2000 {
			t.Errorf("%d attempts in an hour, want about 1440", n)
		}
		d.comeBack()
		advance(returnSpread)
		synctest.Wait()
		w, _ = d.watch()
		w.emit(someList("a"))
		// The same list as before, but good again: that is news.
		recovered := false
		for u, ok := f.next(); ok; u, ok = f.next() {
			recovered = u.err == nil && len(u.Instances) == 1
		}
		if !recovered {
			t.Error("the watcher was not told that the list is good again")
		}
		told := s.all()
		if len(told) != 2 {
			t.Fatalf("events %+v, want one failure and one recovery", told)
		}
		if e, ok := told[0].(WatchFailed); !ok || e.Service != "orders" || e.Err == nil || e.Confirmed.IsZero() {
			t.Errorf("first event %+v, want WatchFailed", told[0])
		}
		if e, ok := told[1].(WatchRecovered); !ok || e.Instances != 1 || e.Outage < time.Since(failed)-time.Second {
			t.Errorf("second event %+v, want WatchRecovered after the outage", told[1])
		}
		f.cancel()
	})
}

func TestWatchThatBreaksAtOnceBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		f := follow(r, "orders")
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); {
			synctest.Wait()
			w, _ := d.watch()
			select {
			case <-w.done:
			default:
				w.emit(someList("a"))
				w.fail <- errDown
			}
			advance(10 * time.Millisecond)
			f.next()
		}
		if _, n := d.watch(); n < 150 || n > 400 {
			t.Errorf("%d lists read in 10 minutes, want about 240", n)
		}
		f.cancel()
	})
}

func TestSkippedIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, s *spy) {
		f := follow(r, "orders")
		synctest.Wait()
		w, _ := d.watch()
		bad := func(text string, ids ...string) {
			l := someList(ids...)
			l.Skipped = []Skipped{{Key: "k", Err: errors.New(text)}}
			w.emit(l)
		}
		bad("one", "a")
		bad("one", "a", "b")
		bad("one", "a", "b")
		bad("two", "a", "b")
		var texts []string
		for _, e := range s.all() {
			texts = append(texts, e.(EntrySkipped).Err.Error())
		}
		if len(texts) != 2 || texts[0] != "one" || texts[1] != "two" {
			t.Errorf("told %v, want one and two", texts)
		}
		f.cancel()
	})
}

func TestWatchRefusesBadName(t *testing.T) {
	bubble(t, func(t *testing.T, d *fakeDriver, r *Registry, _ *spy) {
		n := 0
		for _, err := range r.Watch(t.Context(), "a/b") {
			if n++; err == nil {
				t.Error("Watch of a bad name yields no error")
			}
		}
		if _, watches := d.watch(); n != 1 || watches != 0 {
			t.Errorf("Watch of a bad name yields %d times with %d watches of the backend, want once with none", n, watches)
		}
	})
}
