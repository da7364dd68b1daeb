package limit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	for _, tt := range []struct {
		rate           Rate
		first, perHour int
	}{
		{Rate{RPS: 1}, 1, 3600},
		{Rate{RPS: 0.5}, 1, 1800},
		{Rate{RPS: 10}, 10, 36000},
		{Rate{RPS: 10, Burst: 1}, 1, 36000},
		{Rate{RPS: 1, Burst: 50}, 50, 3600},
		{Rate{RPS: 1e7, Burst: 3}, 3, 0},
	} {
		t.Run(fmt.Sprint(tt.rate.RPS, tt.rate.Burst), func(t *testing.T) {
			r := newRate(tt.rate)
			now := time.Hour
			n := 0
			wait, ok := time.Duration(0), true
			for ok && n < 1000 {
				if wait, ok = r.take(now, "", false); ok {
					n++
				}
			}
			if n != tt.first {
				t.Errorf("%d at once, want %d", n, tt.first)
			}
			if wait <= 0 || math.Abs(wait.Seconds()-1/tt.rate.RPS) > 1e-6 {
				t.Errorf("told to wait for %v", wait)
			}
			if _, ok := r.take(now+wait-1, "", false); ok && wait > 1 {
				t.Error("let in too early")
			}
			if _, ok := r.take(now+wait, "", false); !ok {
				t.Error("not let in when it was told to come")
			}
			if tt.perHour == 0 {
				return
			}
			n = 0
			const ms = time.Millisecond
			for d := ms; d <= time.Hour; d += 10 * ms {
				if _, ok := r.take(now+wait+d, "", false); ok {
					n++
				}
			}
			if want := min(tt.perHour, 360000); n < want-2 || n > want+2 {
				t.Errorf("%d in an hour, want %d", n, want)
			}
		})
	}
}

// TestRateAtOnce: a burst is not larger when many ask at the same time.
func TestRateAtOnce(t *testing.T) {
	r := newRate(Rate{RPS: 1, Burst: 100, Caller: EachCaller})
	var in atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if _, ok := r.take(time.Hour, "a", false); ok {
					in.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if in.Load() != 100 {
		t.Errorf("%d were let in", in.Load())
	}
}

func TestRateMatches(t *testing.T) {
	for _, tt := range []struct {
		rate           Rate
		method, caller string
		want           bool
	}{
		{Rate{}, "a.B/C", "x", true},
		{Rate{Method: "a.B/C"}, "a.B/C", "x", true},
		{Rate{Method: "a.B/C"}, "a.B/CD", "x", false},
		{Rate{Method: "a.B/*"}, "a.B/CD", "x", true},
		{Rate{Method: "a.B/*"}, "a.BC/D", "x", false},
		{Rate{Method: "*"}, "a.BC/D", "x", true},
		{Rate{Caller: "x"}, "a.B/C", "x", true},
		{Rate{Caller: "x"}, "a.B/C", "y", false},
		{Rate{Caller: EachCaller}, "a.B/C", "y", true},
		{Rate{Caller: "x", Method: "GET /items/{id}"}, "GET /items/{id}", "x", true},
	} {
		if got := newRate(tt.rate).matches(tt.method, tt.caller, false); got != tt.want {
			t.Errorf("%+v matches %s of %s: %v", tt.rate, tt.method, tt.caller, got)
		}
	}
}

// TestRateOfOneCaller: who says a name has no part in the rate of who proves it, and
// none at all where only a proved one looks like that.
func TestRateOfOneCaller(t *testing.T) {
	for _, tt := range []struct {
		name string
		said bool // such a name can be said
	}{
		{"orders", true},
		{"10.0.0.7", true},
		{"fe80::1", true},
		{"mtls:spiffe://test/front", false},
		{"corp:ann@example.org", false},
	} {
		r := newRate(Rate{RPS: 1, Caller: tt.name})
		if got := r.matches("a.B/C", tt.name, false); got != tt.said || !r.matches("a.B/C", tt.name, true) {
			t.Errorf("%s is for who says so: %v", tt.name, got)
		}
		for range 3 {
			_, _ = r.take(time.Hour, tt.name, false)
		}
		if _, ok := r.take(time.Hour, tt.name, true); !ok {
			t.Errorf("%s: who says a name takes from who proves it", tt.name)
		}
	}
}

// TestManySaidNames: however many names are said, none takes the place of a proved one.
func TestManySaidNames(t *testing.T) {
	r, c := newRate(Rate{RPS: 1, Caller: EachCaller}), newCallers()
	for i := range 100000 {
		_, _ = r.take(time.Hour, fmt.Sprint("x", i), false)
		c.find(fmt.Sprint("x", i), false).offered.Add(1)
	}
	for i := range 20 {
		name := fmt.Sprint("mtls:", i)
		if _, ok := r.take(time.Hour, name, true); !ok {
			t.Errorf("%s is turned away", name)
		}
		if n := c.find(name, true).offered.Load(); n != 0 {
			t.Errorf("%s has %d calls of others", name, n)
		}
	}
}

// TestEachCaller: callers do not take from one another, and more of them than there
// are places for share what there is.
func TestEachCaller(t *testing.T) {
	r := newRate(Rate{RPS: 1, Caller: EachCaller})
	in := 0
	const many = 100
	for i := range many {
		for range 2 {
			if _, ok := r.take(time.Hour, fmt.Sprint("caller", i), false); ok {
				in++
			}
		}
	}
	if in != many {
		t.Errorf("%d of %d were let in once", in, many)
	}
	if _, ok := r.take(time.Hour, "caller1", true); !ok {
		t.Error("who says a name takes from who proves it")
	}
	for i := range 100000 {
		_, _ = r.take(time.Hour, fmt.Sprint("other", i), false)
	}
	if n := len(r.each.places); n != callerPlaces {
		t.Errorf("%d places", n)
	}
	if _, ok := r.take(2*time.Hour, "caller1", false); !ok {
		t.Error("the places are taken for ever")
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		config Config
		want   string // "" = good
	}{
		{Config{}, ""},
		{Config{Off: true, Max: 100, Rates: []Rate{{Name: "a", Method: "x/*", Caller: "*", RPS: 0.1, Burst: 3}}}, ""},
		{Config{Max: -1}, "Max"},
		{Config{Rates: []Rate{{RPS: 1}}}, "Name"},
		{Config{Rates: []Rate{{Name: "a", RPS: 1}, {Name: "a", RPS: 2}}}, "another rate"},
		{Config{Rates: []Rate{{Name: "a"}}}, "RPS"},
		{Config{Rates: []Rate{{Name: "a", RPS: math.NaN()}}}, "RPS"},
		{Config{Rates: []Rate{{Name: "a", RPS: 1e9}}}, "RPS"},
		{Config{Rates: []Rate{{Name: "a", RPS: 1, Burst: -1}}}, "Burst"},
		{Config{Rates: []Rate{{Name: "a", RPS: 1, Method: "*/x"}}}, "Method"},
		{Config{Rates: []Rate{{Name: "a", RPS: 1, Method: "/a.B/C"}}}, "begins with a /"},
		{Config{Rates: []Rate{{Name: "a", RPS: 1, Caller: "x*"}}}, "Caller"},
		{Config{Rates: make([]Rate, MaxRates+1)}, "more than"},
	} {
		err := tt.config.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.config, err, tt.want)
		}
		l := New()
		if got := l.Configure(tt.config); (got == nil) != (err == nil) {
			t.Errorf("%+v: configured with %v", tt.config, got)
		}
	}
}

// TestConfigureKeeps: what stays the same keeps its count.
func TestConfigureKeeps(t *testing.T) {
	old := compile(Config{Rates: []Rate{{Name: "a", RPS: 1}, {Name: "b", RPS: 1}}}, &compiled{})
	next := compile(Config{Rates: []Rate{{Name: "b", RPS: 1}, {Name: "a", RPS: 2}}}, old)
	if next.rates[0] != old.rates[1] || next.rates[1] == old.rates[0] {
		t.Error("the wrong rates are kept")
	}
}

func TestCallersBounded(t *testing.T) {
	c := newCallers()
	for i := range 100000 {
		c.find(strconv.Itoa(i), i%2 == 0).offered.Add(1)
	}
	if c.find("1", true) == c.find("1", false) && c.find("2", true) == c.find("2", false) && c.find("3", true) == c.find("3", false) {
		t.Error("who says a name is who proves it")
	}
	if n := c.divide(time.Second, 0); n != 100000 {
		t.Errorf("%v calls were counted", n)
	}
	for range 20 {
		c.divide(10*time.Second, 0)
	}
	for i := range c.places {
		if c.places[i].hash.Load() != 0 {
			t.Fatal("a place is not given up")
		}
	}
}

func TestFair(t *testing.T) {
	inf := math.Inf(1)
	for _, tt := range []struct {
		asked  []float64
		served float64
		want   float64
	}{
		{nil, 100, inf},
		{[]float64{100}, 50, inf},
		{[]float64{10, 90}, 50, 40},
		{[]float64{10, 20, 90, 90}, 100, 35},
		{[]float64{50, 50}, 50, inf}, // nobody asks for less
		{[]float64{10, 20}, 50, inf}, // there is enough
		{[]float64{1, 100, 100}, 100, inf},
	} {
		if got := fair(tt.asked, tt.served); got != tt.want {
			t.Errorf("%v of %v: %v, want %v", tt.asked, tt.served, got, tt.want)
		}
	}
}
