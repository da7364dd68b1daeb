package health_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/health"
)

// stuckList collects what OnStuck is told.
type stuckList struct {
	mu   sync.Mutex
	list []health.Stuck
	more chan struct{} // has one for each
}

func newStuckList() *stuckList { return &stuckList{more: make(chan struct{}, 100)} }

func (l *stuckList) option() health.Option {
	return health.OnStuck(func(s health.Stuck) {
		l.mu.Lock()
		l.list = append(l.list, s)
		l.mu.Unlock()
		l.more <- struct{}{}
	})
}

func (l *stuckList) all() []health.Stuck {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]health.Stuck(nil), l.list...)
}

// loop beats until it is told to wedge, where it stays until it is released.
func loop(beat func(), wedge, release <-chan struct{}) {
	for {
		beat()
		select {
		case <-wedge:
			stuckHere(release)
			return
		case <-time.After(time.Second):
		}
	}
}

//go:noinline
func stuckHere(release <-chan struct{}) { <-release }

// TestStuckHeartbeat: within 250 ms of its bound a goroutine that is stuck has
// turned the process not ready, and its stack says where it is.
func TestStuckHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := newStuckList()
		h := health.New(stuck.option())
		h.SetPhase(health.Serving)
		start(t, h)
		beat, err := h.Heartbeat("loop", 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		wedge, release := make(chan struct{}), make(chan struct{})
		go loop(beat, wedge, release)
		<-time.After(time.Minute + time.Millisecond)
		if !h.Ready() || len(stuck.all()) != 0 {
			t.Fatalf("ready %v, %v while it beats", h.Ready(), stuck.all())
		}
		last := time.Now().Add(-time.Millisecond)
		close(wedge)
		<-time.After(5 * time.Second) // minus the millisecond since its last beat
		if h.Ready() {
			t.Error("ready 1 ms after the bound")
		}
		if r := result(t, h, "loop"); !strings.Contains(r.Error, "; the last one came from plinth.internal/health_test.loop") || strings.Contains(r.Error, "goroutine") {
			t.Errorf("error %q", r.Error)
		}
		<-time.After(250 * time.Millisecond)
		synctest.Wait()
		list := stuck.all()
		if len(list) != 1 {
			t.Fatalf("told %d times", len(list))
		}
		s := list[0]
		if s.Name != "loop" || s.Pause != 5*time.Second || !s.Since.Equal(last) || s.Function != "plinth.internal/health_test.loop" {
			t.Errorf("%+v", s)
		}
		if late := s.Found.Sub(last.Add(5 * time.Second)); late <= 0 || late > 250*time.Millisecond {
			t.Errorf("found %v after the bound", late)
		}
		for _, want := range []string{"health_test.stuckHere", "health_test.loop", "heartbeat_test.go", "chan receive"} {
			if !strings.Contains(s.Stack, want) {
				t.Errorf("the stack does not say %q:\n%s", want, s.Stack)
			}
		}
		if strings.Count(s.Stack, "goroutine ") != 2 { // itself, and by whom it was created
			t.Errorf("more than one goroutine:\n%s", s.Stack)
		}
		state := h.Heartbeats()
		if len(state) != 1 || !state[0].Overdue || state[0].Stuck == nil || state[0].Stuck.Stack != s.Stack || !state[0].Beat.Equal(last) {
			t.Errorf("%+v", state)
		}
		close(release)
		<-time.After(time.Minute)
		if len(stuck.all()) != 1 {
			t.Errorf("told %d times of one incident", len(stuck.all()))
		}
		beat() // by another goroutine, and a second incident
		<-time.After(250 * time.Millisecond)
		if state := h.Heartbeats(); !h.Ready() || state[0].Overdue || state[0].Stuck == nil {
			t.Errorf("ready %v, %+v after it came back", h.Ready(), state)
		}
		<-time.After(time.Minute)
		if list := stuck.all(); len(list) != 2 || !strings.Contains(list[1].Stack, "TestStuckHeartbeat") {
			t.Errorf("the second incident: %+v", list[1:])
		}
	})
}

// TestStuckInRealTime is the same by the clock on the wall.
func TestStuckInRealTime(t *testing.T) {
	const pause = 200 * time.Millisecond
	stuck := newStuckList()
	h := health.New(stuck.option())
	h.SetPhase(health.Serving)
	start(t, h)
	beat, err := h.Heartbeat("loop", pause)
	if err != nil {
		t.Fatal(err)
	}
	wedge, release := make(chan struct{}), make(chan struct{})
	close(wedge)
	var wg sync.WaitGroup
	wg.Go(func() { loop(beat, wedge, release) })
	defer func() { close(release); wg.Wait() }()
	select {
	case <-stuck.more:
	case <-time.After(10 * time.Second):
		t.Fatal("not told")
	}
	s := stuck.all()[0]
	if late := s.Found.Sub(s.Since) - pause; late <= 0 || late > 5*time.Second { // 250 ms on a machine that has time for it
		t.Errorf("found %v after the bound", late)
	}
	if h.Ready() || !strings.Contains(s.Stack, "health_test.stuckHere") {
		t.Errorf("ready %v, stack:\n%s", h.Ready(), s.Stack)
	}
}

// TestOverdueWithoutStack: there is not always a goroutine to show.
func TestOverdueWithoutStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := newStuckList()
		h := health.New(stuck.option())
		start(t, h)
		if _, err := h.Heartbeat("never", time.Second); err != nil {
			t.Fatal(err)
		}
		beat, err := h.Heartbeat("ended", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		go beat()
		<-time.After(10 * time.Second)
		list := stuck.all()
		if len(list) != 2 || list[0].Stack != "no goroutine has beaten yet" || list[0].Function != "" || !strings.HasSuffix(list[1].Stack, ", which beat last, has ended") {
			t.Errorf("%+v", list)
		}
	})
}

// TestHeartbeatMoves: a goroutine that takes over is the one that is shown.
func TestHeartbeatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := newStuckList()
		h := health.New(stuck.option())
		start(t, h)
		beat, err := h.Heartbeat("loop", 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { beat(); <-ctx.Done() }() // the first one hangs around
		<-time.After(time.Second)
		wedge, release := make(chan struct{}), make(chan struct{})
		close(wedge)
		go loop(beat, wedge, release)
		<-time.After(5 * time.Second)
		if list := stuck.all(); len(list) != 1 || !strings.Contains(list[0].Stack, "health_test.stuckHere") {
			t.Errorf("%+v", list)
		}
		cancel()
		close(release)
	})
}

func BenchmarkBeat(b *testing.B) {
	beat, err := health.New().Heartbeat("loop", time.Second)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		beat()
	}
}
