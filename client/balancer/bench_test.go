package balancer

import (
	"strconv"
	"testing"
	"time"
)

// fleetOf returns a list whose endpoints have all been called and have reported.
func fleetOf(n int) *List {
	l := NewList(endpoints(n))
	for i := range n {
		e := l.At(i)
		var c Call
		now := noon.Add(time.Duration(i) * time.Microsecond)
		e.Begin(now, &c)
		e.End(now.Add(5*time.Millisecond), &c, Succeeded)
		e.Report(now.Add(5*time.Millisecond), Report{InFlight: int64(i % 7), Latency: 5 * time.Millisecond, QPS: 100, Utilization: 0.5})
		e.Begin(now.Add(6*time.Millisecond), new(Call))
	}
	return l
}

func BenchmarkPick(b *testing.B) {
	for _, name := range Names() {
		for _, n := range []int{10, 1000} {
			b.Run(name+"/"+strconv.Itoa(n), func(b *testing.B) {
				p, l := mustNew(b, name), fleetOf(n)
				r := Request{Now: noon.Add(20 * time.Millisecond), Key: "customer-4711"}
				p.Pick(l, r)
				b.ReportAllocs()
				for b.Loop() {
					p.Pick(l, r)
				}
			})
		}
	}
}

// BenchmarkAttempt is a whole attempt, from eight goroutines at once.
func BenchmarkAttempt(b *testing.B) {
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			p, l := mustNew(b, name), fleetOf(10)
			r := Request{Now: noon.Add(20 * time.Millisecond)}
			b.ReportAllocs()
			b.SetParallelism(4) // times GOMAXPROCS, which is 2 on small machines
			b.RunParallel(func(pb *testing.PB) {
				c := new(Call)
				for pb.Next() {
					e := l.At(p.Pick(l, r))
					e.Begin(r.Now, c)
					e.End(r.Now, c, Succeeded)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "picks/s")
		})
	}
}

func BenchmarkNewRing(b *testing.B) {
	all := endpoints(1000)
	for b.Loop() {
		newRing(all)
	}
}

func mustNew(tb testing.TB, name string) Policy {
	tb.Helper()
	p, err := New(name)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}
