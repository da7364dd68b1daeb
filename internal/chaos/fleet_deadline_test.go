//go:build linux

package chaos_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"plinth.internal/client"
	"plinth.internal/middleware"
	"plinth.internal/registry/static"
)

// toils works for as long as somebody waits for it, and tells of it.
func (w *worker) toils(ctx context.Context, number string) error {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return err
	}
	begun := time.Now()
	l := line{Kind: lineWork, Number: n, At: micros(begun), Left: -1}
	if d, ok := ctx.Deadline(); ok {
		l.Left = d.Sub(begun).Microseconds()
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second): // for nothing: there is no deadline
	}
	l.Took = time.Since(begun).Microseconds()
	emit(l)
	return status.FromContextError(ctx.Err()).Err()
}

// asked is a call of the first of a chain.
type asked struct {
	number int64
	over   time.Time // when its caller stops waiting
}

// asks makes a call that its caller gives up after a while: because its deadline
// passes, or because it is canceled long before.
func (w *fleetWorld) asks(do invoke, number int64, wait time.Duration, cancels bool) asked {
	begun := time.Now()
	deadline := wait
	if cancels {
		deadline = 100 * wait
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	a := asked{number: number, over: begun.Add(wait)}
	var mu sync.Mutex
	if cancels {
		timer := time.AfterFunc(wait, func() {
			mu.Lock()
			defer mu.Unlock()
			a.over = time.Now()
			cancel()
		})
		defer timer.Stop()
	}
	l := line{Kind: lineCall, At: begun.UnixMicro(), Idempotent: true, Canceled: true}
	t := new(trace)
	err := do(ctx, &l, fmt.Sprintf("good %d %d", l.At, number), t)
	l.Took, l.Code, l.Tries = time.Since(begun).Microseconds(), middleware.Code(err), t.end()
	w.ledger.from(0, 1).take(l)
	mu.Lock()
	defer mu.Unlock()
	return a
}

// takes has an instance take so long for a call from now on, and returns when it knows.
func (i *instance) takes(d time.Duration) {
	i.w.t.Helper()
	i.p.order(fmt.Sprintf("slow %v", d-workTime))
	i.count()
}

// worked returns the work that was done for the calls: what the instance tells, after
// it has told all.
func (i *instance) worked(calls []asked) []line {
	i.w.t.Helper()
	eventually(i.w.t, 20*time.Second, "nobody works any more", func() error {
		if c := i.count(); c.Open != 0 {
			return fmt.Errorf("%d calls are in the handler", c.Open)
		}
		return nil
	})
	i.mu.Lock()
	defer i.mu.Unlock()
	return selected(i.works, func(l *line) bool {
		return slices.ContainsFunc(calls, func(a asked) bool { return a.number == l.Number })
	})
}

// lateness returns how long after their callers had stopped waiting the work for them
// ended, mostly and at the latest; negative where it was before.
func lateness(works []line, calls []asked) (median, most time.Duration) {
	late := []time.Duration{-time.Hour} // of nothing
	for _, l := range works {
		for _, a := range calls {
			if a.number == l.Number {
				late = append(late, time.UnixMicro(l.At+l.Took).Sub(a.over).Round(10*time.Microsecond))
			}
		}
	}
	slices.Sort(late)
	return late[len(late)/2], late[len(late)-1]
}

// testFleetDeadline is F26: the test waits 100 ms for a service that takes 80 ms before
// it calls another one, whose work never ends by itself.
func testFleetDeadline(t *testing.T, g *fleetGroup) {
	const wait = 100 * time.Millisecond
	w := newFleetWorld(t, fleetSpec{
		etcd: g.etcd, group: g, servers: 1, quiet: true,
		work:  workSpec{Next: lastService, Transport: g.transport},
		tiers: []workSpec{{Service: lastService}},
	})
	middle, last := w.workers[0], w.tiers[0][0]
	reg, err := static.Open(map[string][]string{workService: {"grpc=" + middle.at(overGRPC) + ",http=" + middle.at(overHTTP)}})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	c, err := client.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	do := invokeHTTP(c.HTTP(workService), workService)
	if g.transport == overGRPC {
		conn, err := c.Conn(workService)
		if err != nil {
			t.Fatal(err)
		}
		do = invokeGRPC(conn)
	}
	eventually(t, 20*time.Second, "the chain works", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return do(ctx, &line{Idempotent: true}, "good 0 0", new(trace))
	})
	last.p.order("toil")
	open := w.census()
	number := int64(0)
	next := func() int64 { number++; return number }

	middle.takes(80 * time.Millisecond)
	var calls []asked
	for range count(50, 40) {
		calls = append(calls, w.asks(do, next(), wait, false))
	}
	works := last.worked(calls)
	most := time.Duration(slices.MaxFunc(append(works, line{}), func(a, b line) int { return int(a.Left - b.Left) }).Left) * time.Microsecond
	least := time.Duration(slices.MinFunc(append(works, line{Left: wait.Microseconds()}), func(a, b line) int { return int(a.Left - b.Left) }).Left) * time.Microsecond
	w.check(least > 0 && most <= 15*time.Millisecond, "the last service sees at most 15 ms of the deadline", "%v to %v", least, most)
	w.timed(len(works) >= len(calls)*9/10, "and begins its work for what is left", "for %d of %d calls", len(works), len(calls))
	median, late := lateness(works, calls)
	// In the short form the machine does much else.
	soon := pick(5*time.Millisecond, 50*time.Millisecond)
	w.timed(late <= soon && median <= 5*time.Millisecond, fmt.Sprintf("its work stops at most %v after the first caller's deadline", soon), "%v after it at the latest, the median %v", late, median)

	// What is left at the last service goes down through the millisecond that work is
	// not begun for.
	var sweep []asked
	step := pick(250*time.Microsecond, time.Millisecond)
	for d := 90 * time.Millisecond; d <= wait; d += step {
		middle.takes(d)
		sweep = append(sweep, w.asks(do, next(), wait, false))
	}
	works = last.worked(sweep)
	// The handler looks a little later than the middleware that decides.
	const way = 500 * time.Microsecond
	early := selected(works, func(l *line) bool { return time.Duration(l.Left)*time.Microsecond < time.Millisecond-way })
	w.timed(len(early) == 0 && len(works) < len(sweep), "it never begins with less than 1 ms left (0.5 ms as the handler sees it)", "%d of %d calls with 10 to 0 ms left began, %d of them too late", len(works), len(sweep), len(early))

	// A caller that gives up is noticed at the far end of the chain as well.
	middle.takes(workTime)
	var gone []asked
	for range count(50, 20) {
		gone = append(gone, w.asks(do, next(), 30*time.Millisecond, true))
	}
	works = last.worked(gone)
	median, late = lateness(works, gone)
	w.timed(len(works) == len(gone) && late <= soon, fmt.Sprintf("when the first caller cancels, the work at the end stops within %v", soon), "after %v at the latest, the median %v; %d of %d", late, median, len(works), len(gone))
	w.leavesNothing(open)
	w.finish(fleetRow{id: "F26", what: fmt.Sprintf("a caller waits %v for a service that takes 80 ms (then 90 to 100) before it calls another one, whose work lasts until nobody waits for it; then the caller cancels after 30 ms", wait)})
}

// count returns how many of something are made in the full or in the short form.
func count(long, short int) int {
	if *full {
		return long
	}
	return short
}
