package breaker

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func never() float64  { return 1 }
func always() float64 { return 0 }

// nothing is the state of an adaptive breaker that has seen nothing.
var nothing = State{Policy: PolicyAdaptive}

func TestRejectProbability(t *testing.T) {
	tests := []struct {
		name          string
		sent, refused int
		want          float64
	}{
		{"nothing sent", 0, 0, 0},
		{"one refused", 1, 1, 0},
		{"slack refused", 10, 10, 0},
		{"one more than slack", 11, 11, 1.0 / 12},
		{"half refused", 1000, 500, 0},
		{"three quarters refused", 1000, 750, (1000 - 2*250 - 10) / 1001.0},
		{"all refused", 1000, 1000, MaxReject},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := New(Config{}, t0, never)
			for i := range tt.sent {
				p, err := b.Allow(t0)
				if err != nil {
					t.Fatal("rejected though the draw was 1")
				}
				outcome := Accepted
				if i < tt.refused {
					outcome = Refused
				}
				b.Done(t0, p, outcome)
			}
			got := b.State(t0)
			if math.Abs(got.Reject-tt.want) > 1e-9 || got.Sent != int64(tt.sent) || got.Failed != int64(tt.refused) {
				t.Errorf("state is %+v, want sent %d, refused %d, reject %v", got, tt.sent, tt.refused, tt.want)
			}
		})
	}
}

func TestRejectedIsNotCounted(t *testing.T) {
	b := New(Config{}, t0, always)
	for range 11 {
		p, _ := b.Allow(t0)
		b.Done(t0, p, Refused)
	}
	before := b.State(t0)
	if before.Reject == 0 {
		t.Fatal("eleven refusals reject nothing")
	}
	if _, err := b.Allow(t0); err == nil {
		t.Fatal("allowed though the draw was 0")
	}
	if after := b.State(t0); after != before {
		t.Errorf("a rejected call changed the state from %+v to %+v", before, after)
	}
}

func TestPendingAndNeutral(t *testing.T) {
	b := New(Config{}, t0, never)
	var permits []Permit
	for range 100 {
		p, _ := b.Allow(t0)
		permits = append(permits, p)
	}
	if got := b.State(t0); got.Reject != 0 || got.Sent != 100 {
		t.Errorf("state with 100 pending is %+v", got)
	}
	for _, p := range permits {
		b.Done(t0.Add(3*time.Second), p, Neutral)
	}
	if got := b.State(t0); got != nothing {
		t.Errorf("state after 100 neutral is %+v, want nothing", got)
	}
}

// TestFailedIsAccepted: the adaptive policy knows overload only.
func TestFailedIsAccepted(t *testing.T) {
	b := New(Config{}, t0, always)
	for range 100 {
		p, err := b.Allow(t0)
		if err != nil {
			t.Fatalf("rejected: %v", err)
		}
		b.Done(t0, p, Failed)
	}
	if got := b.State(t0); got.Sent != 100 || got.Failed != 0 || got.Reject != 0 || got.Phase != Closed {
		t.Errorf("state after 100 failures is %+v", got)
	}
}

func TestWindow(t *testing.T) {
	b := New(Config{}, t0, never)
	late, _ := b.Allow(t0)
	for range 50 {
		p, _ := b.Allow(t0)
		b.Done(t0, p, Refused)
	}
	if got := b.State(t0.Add(Window - 1)); got.Sent != 51 || got.Failed != 50 {
		t.Errorf("state at the end of the window is %+v", got)
	}
	if got := b.State(t0.Add(Window)); got != nothing {
		t.Errorf("state after the window is %+v, want nothing", got)
	}
	b.Done(t0.Add(Window), late, Refused)
	b.Done(t0.Add(Window), late, Neutral)
	if got := b.State(t0.Add(Window)); got != nothing {
		t.Errorf("an attempt older than the window left %+v", got)
	}
	if got := b.State(t0.Add(-time.Hour)); got != nothing {
		t.Errorf("a clock that went back left %+v", got)
	}
}

// TestSimulation offers 1000 calls a second to a service that can take 250
// for 30 seconds and everything afterwards.
func TestSimulation(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		b := New(Config{}, t0, rand.New(rand.NewPCG(seed, seed)).Float64)
		const rate, capacity = 1000, 250
		sentIn := make([]int, 50)
		for second := range sentIn {
			taken := 0
			for i := range rate {
				now := t0.Add(time.Duration(second)*time.Second + time.Duration(i)*time.Second/rate)
				p, err := b.Allow(now)
				if err != nil {
					continue
				}
				sentIn[second]++
				// Capacity is spread evenly over the second.
				if second >= 30 || taken < capacity*(i+1)/rate {
					taken++
					b.Done(now, p, Accepted)
				} else {
					b.Done(now, p, Refused)
				}
			}
		}
		// In balance sent = sqrt(K * offered * accepted) = 707.
		for second := 15; second < 30; second++ {
			if sentIn[second] < 600 || sentIn[second] > 820 {
				t.Errorf("seed %d: %d were sent in second %d of the overload, want about 707", seed, sentIn[second], second)
			}
		}
		for second := 36; second < 50; second++ {
			if sentIn[second] != rate {
				t.Errorf("seed %d: only %d of %d were sent in second %d, the overload ended in second 30", seed, sentIn[second], rate, second)
			}
		}
	}
}

// TestRecovery: after a total outage the tenth that passes is enough to let go
// within a few seconds.
func TestRecovery(t *testing.T) {
	b := New(Config{}, t0, rand.New(rand.NewPCG(5, 5)).Float64)
	const rate = 1000
	released := -1
	for second := range 60 {
		for i := range rate {
			now := t0.Add(time.Duration(second)*time.Second + time.Duration(i)*time.Second/rate)
			p, err := b.Allow(now)
			if err != nil {
				continue
			}
			outcome := Accepted
			if second < 30 {
				outcome = Refused
			}
			b.Done(now, p, outcome)
		}
		end := b.State(t0.Add(time.Duration(second+1)*time.Second - 1))
		if second == 29 && end.Reject != MaxReject {
			t.Errorf("at the end of the outage %v of the calls are rejected, want %v", end.Reject, MaxReject)
		}
		if second >= 30 && end.Reject == 0 && released < 0 {
			released = second - 30
		}
	}
	if released < 0 || released > 6 {
		t.Errorf("calls were let go %d s after the outage, want at most 6", released)
	}
}

func TestConcurrent(t *testing.T) {
	b := New(Config{}, t0, nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				now := t0.Add(time.Duration(i) * 5 * time.Millisecond)
				if p, err := b.Allow(now); err == nil {
					b.Done(now, p, Outcome(g%4))
				}
			}
		})
	}
	wg.Wait()
	if got := b.State(t0.Add(time.Hour)); got != nothing {
		t.Errorf("the ring does not balance: %+v is left when everything has expired", got)
	}
}

func BenchmarkBreaker(b *testing.B) {
	br := New(Config{}, time.Now(), nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			now := time.Now()
			if p, err := br.Allow(now); err == nil {
				br.Done(now, p, Accepted)
			}
		}
	})
}
