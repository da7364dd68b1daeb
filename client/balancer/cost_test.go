package balancer

import (
	"math"
	"testing"
	"time"
)

const ms = time.Millisecond

// TestCost holds the rule, term by term. Each case is about the endpoint a; what
// happens to b makes the fleet's mean.
func TestCost(t *testing.T) {
	type env struct {
		a, b *Endpoint
		at   func(time.Duration) time.Time
	}
	tests := []struct {
		name    string
		do      func(env)
		after   time.Duration
		load    float64
		latency time.Duration
		share   float64
	}{
		{"nothing known", func(env) {}, 0, 0, firstLatency, 0},
		{"unknown is as the mean", func(v env) {
			call(v.b, v.at(0), 8*ms, Succeeded)
			v.b.Report(v.at(8*ms), Report{InFlight: 6, Latency: 8 * ms, Failures: 0})
		}, 8 * ms, 6, 8 * ms, 0},
		{"own in-flight", func(v env) {
			v.a.Begin(v.at(0), new(Call))
			v.a.BeginStream(v.at(0), new(Call))
		}, 0, 2, firstLatency, 0},
		{"own latency", func(v env) { call(v.a, v.at(0), 8*ms, Succeeded) }, 8 * ms, 0, 8 * ms, 0},
		{"own latency is a mean over a second", func(v env) {
			call(v.a, v.at(0), 10*ms, Succeeded)
			call(v.a, v.at(time.Second-10*ms), 20*ms, Succeeded)
		}, time.Second + 10*ms, 0, 16*ms + 317*time.Microsecond, 0},
		{"a stream has no latency and no age", func(v env) {
			var c, d Call
			v.a.BeginStream(v.at(0), &c)
			v.a.BeginStream(v.at(0), &d)
			v.a.End(v.at(time.Hour), &c, Succeeded)
		}, time.Hour, 1, firstLatency, 0},
		{"the latency ends with the answer", func(v env) {
			var c, d Call
			v.a.Begin(v.at(0), &c)
			v.a.Begin(v.at(0), &d)
			v.a.Answer(v.at(8*ms), &c)
			v.a.Answer(v.at(9*ms), &c)
			v.a.Answer(v.at(8*ms), &d)
			v.a.End(v.at(time.Hour), &c, Succeeded)
		}, time.Hour, 1, 8 * ms, 0},
		{"latency fades into the mean", func(v env) {
			call(v.b, v.at(0), 10*ms, Succeeded)
			for range 200 { // the mean is b's
				call(v.b, v.at(0), 10*ms, Succeeded)
			}
			v.a.setLatency(v.a.fleet.at(v.at(0)), 0, float64(60*ms), 1)
		}, latencyTau + 5*latencySlow, 0, 10*ms + 18461*time.Microsecond, 0}, // it is 5 means slower
		{"nobody is taken for more than ten times as slow as the mean", func(v env) {
			for range 200 {
				call(v.b, v.at(0), 10*ms, Succeeded)
			}
			v.a.setLatency(v.a.fleet.at(v.at(0)), 0, float64(time.Hour), 1)
		}, 0, 0, 101 * ms, 0},
		{"a server's word counts a little", func(v env) {
			call(v.a, v.at(0), 10*ms, Succeeded) // half of it on the way
			v.a.Report(v.at(10*ms), Report{InFlight: -1, Latency: 5 * ms, Failures: -1})
			v.a.Report(v.at(10*ms), Report{InFlight: -1, Latency: 25 * ms, Failures: -1})
		}, 10 * ms, 0, 12 * ms, 0},
		{"and not at all while it says the same", func(v env) {
			for i := range 100 {
				at := v.at(time.Duration(i) * 10 * ms)
				call(v.a, at, 10*ms, Succeeded)
				v.a.Report(at.Add(10*ms), Report{InFlight: 0, Latency: 100 * time.Microsecond, Failures: 0})
			}
		}, time.Second, 0, 10 * ms, 0},
		{"the way that others have is taken for one's own", func(v env) {
			call(v.b, v.at(0), 10*ms, Succeeded)
			v.b.Report(v.at(10*ms), Report{InFlight: 0, Latency: 2 * ms, Failures: 0})
			v.a.Report(v.at(10*ms), Report{InFlight: 0, Latency: 4 * ms, Failures: 0})
		}, 10 * ms, 0, 12 * ms, 0},
		{"but is all there is before the first call", func(v env) {
			v.a.Report(v.at(0), Report{InFlight: -1, Latency: 20 * ms, Failures: -1})
		}, 0, 0, 20 * ms, 0},
		{"the way to the server counts", func(v env) { // a proxy adds 100 ms
			call(v.a, v.at(0), 105*ms, Succeeded)
			v.a.Report(v.at(105*ms), Report{InFlight: 0, Latency: 5 * ms, Failures: 0})
		}, 105 * ms, 0, 105 * ms, 0},
		{"reported in-flight, and what changed since", func(v env) {
			var c Call
			v.a.Begin(v.at(0), &c)
			v.a.Report(v.at(0), Report{InFlight: 7, Failures: -1})
			v.b.Report(v.at(0), Report{InFlight: 1, Failures: -1})
			v.a.End(v.at(ms), &c, Ignored)
			v.a.Begin(v.at(ms), new(Call))
			v.a.Begin(v.at(ms), new(Call))
		}, 0, 8, firstLatency, 0},
		{"reported in-flight fades into the mean", func(v env) {
			v.a.Report(v.at(0), Report{InFlight: 20, Failures: -1})
			v.b.Report(v.at(0), Report{InFlight: 0, Failures: -1}) // mean 10
		}, loadTau, 10 + 10*0.36923, firstLatency, 0},
		{"a report of less than what is on its way", func(v env) {
			v.a.Begin(v.at(0), new(Call))
			v.a.Begin(v.at(0), new(Call))
			v.a.Report(v.at(0), Report{InFlight: 1, Failures: -1})
		}, 0, 2, firstLatency, 0},
		{"one that does not report among those that do", func(v env) {
			v.b.Report(v.at(0), Report{InFlight: 9, Failures: -1})
			call(v.a, v.at(0), ms, Succeeded)
			v.a.Begin(v.at(0), new(Call))
		}, ms, 10, ms, 0},
		{"the oldest pending is a floor", func(v env) {
			call(v.a, v.at(0), 10*ms, Succeeded)
			var first Call
			v.a.Begin(v.at(10*ms), &first)
			v.a.Begin(v.at(20*ms), new(Call))
			v.a.End(v.at(20*ms), &first, Ignored) // not in order
		}, 120 * ms, 1, 100 * ms, 0},
		{"a fast failure is no latency", func(v env) {
			call(v.a, v.at(0), 10*ms, Succeeded)
			call(v.a, v.at(10*ms), 0, Failed)
		}, 10 * ms, 0, 10 * ms, 1./3 - .01 - 2*math.Sqrt(.01*.99/3) + .01/3},
		{"a timeout raises the latency", func(v env) {
			call(v.a, v.at(0), 10*ms, Succeeded)
			call(v.a, v.at(10*ms), 210*ms, Ignored)
		}, 220 * ms, 0, 10*ms + 50*ms, 0},
		{"a call given up early does not", func(v env) {
			call(v.a, v.at(0), 10*ms, Succeeded)
			call(v.a, v.at(10*ms), 2*ms, Ignored)
		}, 12 * ms, 0, 10 * ms, 0},
		{"failures that the server tells of", func(v env) {
			v.a.Report(v.at(0), Report{InFlight: -1, Failures: 0.5})
			v.b.Report(v.at(0), Report{InFlight: -1, Failures: 0})
		}, 0, 0, firstLatency, 0.25},
		{"failures fade", func(v env) {
			v.a.Report(v.at(0), Report{InFlight: -1, Failures: 0.5})
			v.b.Report(v.at(0), Report{InFlight: -1, Failures: 0})
		}, failureTau, 0, firstLatency, 0.25 * 0.36923},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all := endpoints(2)
			v := env{all[0], all[1], noon.Add}
			tt.do(v)
			s := v.a.Stats(v.at(tt.after))
			if math.Abs(s.Load-tt.load) > 0.01 || (s.Expected-tt.latency).Abs() > tt.latency/50 || math.Abs(s.FailureShare-tt.share) > 0.002 {
				t.Errorf("load %.3f, latency %v, failure share %.4f; want %.3f, %v, %.4f", s.Load, s.Expected, s.FailureShare, tt.load, tt.latency, tt.share)
			}
			want := (s.Expected.Seconds() + time.Duration(grain).Seconds()) * (s.Load + 1) * (1 + failureWeight*s.FailureShare)
			if math.Abs(s.Cost-want) > want/1000 {
				t.Errorf("cost is %v, want %v", s.Cost, want)
			}
		})
	}
}

func TestCostIsPerWeight(t *testing.T) {
	all := new(Set).Update(noon, []Member{{Addr: "a", Weight: 300}, {Addr: "b"}})
	if a, b := all[0].Stats(noon).Cost, all[1].Stats(noon).Cost; math.Abs(3*a-b) > b/1000 {
		t.Errorf("the costs are %v and %v, want a third at three times the weight", a, b)
	}
}

// TestFailuresEverywhere: an error that all give alike says nothing about one.
func TestFailuresEverywhere(t *testing.T) {
	all := endpoints(10)
	random := seeded(1)
	for i := range 20000 {
		o := Succeeded
		if random()%10 == 0 {
			o = Failed
		}
		call(all[random()%10], noon.Add(time.Duration(i)*ms), ms, o)
	}
	var sum float64
	for _, e := range all {
		sum += e.Stats(noon.Add(20 * time.Second)).FailureShare
	}
	if sum > 0.7 {
		t.Errorf("with a tenth of all calls failing everywhere the mean share that counts is %.3f, want hardly any", sum/10)
	}
	// One that fails them all stands out all the same.
	for i := range 10 {
		call(all[0], noon.Add(20*time.Second+time.Duration(i)*ms), 0, Failed)
	}
	if got := all[0].Stats(noon.Add(20*time.Second + 10*ms)).FailureShare; got < 0.15 {
		t.Errorf("the one that always fails has share %.2f", got)
	}
}

// TestSinkhole: whoever fails at once looks idle and quick, and must not be liked for it.
func TestSinkhole(t *testing.T) {
	all := endpoints(2)
	sick, well := all[0], all[1]
	for i := range 200 {
		now := noon.Add(time.Duration(i) * ms)
		call(well, now, 10*ms, Succeeded)
		well.Report(now.Add(10*ms), Report{InFlight: 20, Latency: 10 * ms})
	}
	now := noon.Add(210 * ms)
	call(sick, now, 0, Failed)
	sick.Report(now, Report{InFlight: 0, Latency: 10 * time.Microsecond, Failures: 0.9})
	for _, after := range []time.Duration{0, 100 * ms, time.Second, 5 * time.Second} {
		a, b := sick.Stats(now.Add(after)), well.Stats(now.Add(after))
		if a.Cost < 2*b.Cost {
			t.Errorf("%v after it failed the sick one costs %.4f, the well one %.4f", after, a.Cost, b.Cost)
		}
	}
	// In the end it gets another chance.
	if a, b := sick.Stats(now.Add(2*time.Minute)), well.Stats(now.Add(2*time.Minute)); a.Cost > 1.1*b.Cost {
		t.Errorf("two minutes later the sick one costs %.4f, the well one %.4f", a.Cost, b.Cost)
	}
}

func TestStatsCounts(t *testing.T) {
	e := endpoints(1)[0]
	for _, o := range []Outcome{Succeeded, Failed, Ignored, Succeeded} {
		call(e, noon, ms, o)
	}
	s := e.Stats(noon.Add(ms))
	if s.Calls != 3 || s.Failures != 1 || s.InFlight != 0 || !s.Open || s.Warm != 1 || s.Reporting {
		t.Errorf("stats are %+v", s)
	}
	e.Report(noon, Report{InFlight: 3, Latency: ms, Failures: 0})
	if s := e.Stats(noon.Add(time.Second)); !s.Reporting || s.Reported != 3 || s.Age != time.Second {
		t.Errorf("after a report the stats are %+v", s)
	}
}

// TestFailuresOfSparseClients: who calls every ten seconds remembers a failure for
// longer than who calls all the time.
func TestFailuresOfSparseClients(t *testing.T) {
	for _, every := range []time.Duration{10 * ms, 10 * time.Second} {
		all := endpoints(10)
		now := noon
		for i := range 50 {
			call(all[1+i%9], now, ms, Succeeded)
			now = now.Add(every)
		}
		call(all[0], now, ms, Failed)
		before := all[0].Stats(now.Add(ms)).FailureShare
		after := all[0].Stats(now.Add(20 * time.Second)).FailureShare
		if sparse := every > time.Second; sparse != (after > 0.7*before) {
			t.Errorf("with a call every %s a share of %.2f is %.2f after 20 s", every, before, after)
		}
	}
}

// TestToldFailuresByChance: where all servers fail a tenth of their calls, one
// that tells a little more is not repelled for it, since all clients hear it. One
// that tells much more is.
func TestToldFailuresByChance(t *testing.T) {
	l := NewList(endpoints(5))
	now := noon
	for range 200 {
		now = now.Add(20 * ms)
		for i, failures := range []float64{0.06, 0.1, 0.1, 0.1, 0.14} {
			l.At(i).Report(now, Report{InFlight: 1, Latency: 5 * ms, Failures: failures, QPS: 40})
		}
	}
	if got := l.At(4).Stats(now).FailureShare; got != 0 {
		t.Errorf("a share of 0.14 where the mean is 0.1 counts as %v", got)
	}
	l.At(4).Report(now, Report{InFlight: 1, Latency: 5 * ms, Failures: 0.5, QPS: 40})
	if got := l.At(4).Stats(now).FailureShare; got < 0.2 || got > 0.4 {
		t.Errorf("a share of 0.5 where the mean is 0.1 counts as %v", got)
	}
}
