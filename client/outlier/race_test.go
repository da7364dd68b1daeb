package outlier

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// TestConcurrent lets everything happen at once, and looks at what must hold
// whatever the order: the count is that of the records, and a trial is never
// claimed twice.
func TestConcurrent(t *testing.T) {
	d := New(Config{Base: 2 * time.Millisecond, Max: 50 * time.Millisecond}, nil)
	var records atomic.Pointer[[]*Record]
	update := func(n int) {
		list := d.Update(time.Now(), members(n))
		records.Store(&list)
	}
	update(10)
	var wg sync.WaitGroup
	var ejected, returned, trials atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for range 20_000 {
				list := *records.Load()
				i := rng.IntN(len(list))
				r := list[i]
				if !r.Open(time.Now()) {
					continue
				}
				ticket := r.Begin(time.Now())
				if ticket.Trial() {
					trials.Add(1)
				}
				outcome := Succeeded
				switch {
				case i < 3 && rng.IntN(20) > 0:
					outcome = Failed
				case rng.IntN(4) == 0:
					outcome = Ignored
				}
				switch r.End(time.Now(), ticket, outcome).Kind {
				case Ejected:
					ejected.Add(1)
				case Returned:
					returned.Add(1)
				case None:
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 200 {
			update(5 + i%6)
			d.State(time.Now())
			if i%50 == 49 {
				d.Configure(Config{Off: i%100 == 49, Base: 2 * time.Millisecond, Max: 50 * time.Millisecond})
			}
			for _, r := range *records.Load() {
				r.State(time.Now())
			}
		}
	})
	wg.Wait()
	update(10)
	want := 0
	for _, r := range *records.Load() {
		if r.State(time.Now()).Ejected {
			want++
		}
	}
	if got := d.State(time.Now()).Ejected; got != want {
		t.Errorf("the detector counts %d ejected, the records are %d", got, want)
	}
	if ejected.Load() == 0 || trials.Load() == 0 || returned.Load() > ejected.Load() {
		t.Errorf("%d ejections, %d trials, %d returns", ejected.Load(), trials.Load(), returned.Load())
	}
}

// TestOneTrial: of many attempts that begin at once one is the trial.
func TestOneTrial(t *testing.T) {
	f := newFleet(Config{}, 3)
	f.sick(t, 0)
	f.sleep(DefaultBase)
	var trials atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if f.records[0].Begin(f.now).Trial() {
				trials.Add(1)
			}
		})
	}
	wg.Wait()
	if trials.Load() != 1 {
		t.Errorf("%d trials at once", trials.Load())
	}
}

func TestSize(t *testing.T) {
	if got := unsafe.Sizeof(Record{}); got > 320 {
		t.Errorf("a record takes %d bytes: with its entry in the map, ten thousand take more than 4 MB", got)
	}
}

func TestAllocates(t *testing.T) {
	f := newFleet(Config{}, 10)
	r := f.records[0]
	for _, outcome := range []Outcome{Succeeded, Ignored, Failed} {
		if got := testing.AllocsPerRun(1000, func() {
			f.sleep(time.Millisecond)
			if r.Open(f.now) {
				r.End(f.now, r.Begin(f.now), outcome)
			}
		}); got != 0 {
			t.Errorf("outcome %d: %v allocations a call", outcome, got)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, out := range []bool{false, true} {
		b.Run(fmt.Sprintf("ejected=%v", out), func(b *testing.B) {
			d := New(Config{}, nil)
			now := time.Now()
			r := d.Update(now, members(10))[0]
			for range DefaultConsecutive {
				if out {
					r.End(now, r.Begin(now), Failed)
				}
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if r.Open(now) == out {
						b.Error("wrong")
					}
				}
			})
		})
	}
}

func BenchmarkBeginEnd(b *testing.B) {
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprintf("instances=%d", n), func(b *testing.B) {
			d := New(Config{}, nil)
			records := d.Update(time.Now(), members(n))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				now := time.Now()
				for i := 0; pb.Next(); i++ {
					r := records[i%n]
					r.End(now, r.Begin(now), Succeeded)
				}
			})
		})
	}
}

// BenchmarkOutage: everything fails, with ten thousand instances to compare.
func BenchmarkOutage(b *testing.B) {
	d := New(Config{}, nil)
	records := d.Update(time.Now(), members(10_000))
	for _, r := range records {
		for range 20 {
			r.End(time.Now(), r.Begin(time.Now()), Failed)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		now := time.Now()
		r := records[i%len(records)]
		r.End(now, r.Begin(now), Failed)
	}
	if d.State(time.Now()).Ejected > len(records)/100 {
		b.Errorf("ejected are %d", d.State(time.Now()).Ejected)
	}
}

// BenchmarkCompare is one look at ten thousand records.
func BenchmarkCompare(b *testing.B) {
	d := New(Config{}, nil)
	now := time.Now()
	r := d.Update(now, members(10_000))[0]
	b.ReportAllocs()
	for b.Loop() {
		d.mu.Lock()
		d.restLocked(time.Second, r, 5, 0)
		d.mu.Unlock()
	}
}
