package limit

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// EachCaller stands in [Rate].Caller for every caller by itself.
const EachCaller = "*"

// Bounds of a [Config].
const (
	// MaxRates is how many rates there may be: each is looked at for every call.
	MaxRates = 100
	// MaxRPS is the highest rate there may be.
	MaxRPS = 1e7
)

// Config is what can be set of a limiter. The zero Config is the limit that learns,
// alone.
type Config struct {
	// Off switches the limit that learns off. Max and Rates hold all the same.
	Off bool
	// Max is how many calls may be in flight whatever is learned; 0 means no such
	// limit. Ten streams count as one call. Calls that matter less may use a part
	// of it only, as of the limit that learns; none may exceed it.
	Max int
	// Rates are held beside the limit, in this order. All that match a call must
	// let it in; one that is turned away by the second has used up a part of the
	// first.
	Rates []Rate
}

// Rate limits calls to so many in a second.
type Rate struct {
	// Name is told to those that are turned away; it must be unique.
	Name string
	// Method is what is called, as [middleware.Call.FullMethod] tells it:
	// "orders.v1.Orders/Get", for HTTP the route's pattern. With a * at the end it
	// is a beginning. "" means everything.
	Method string
	// Caller is who calls: the identity that was proved, or else the name that the
	// caller says ([middleware.HeaderCaller]), or else its host; see
	// [CallersChecked]. A name that has the form of a proved one ("mtls:orders",
	// "corp:ann@example.org") is nobody's who only says it, and of another name
	// those who proved it and those who say it have a count each. "" means all
	// callers together, [EachCaller] each of them by itself.
	Caller string
	// RPS is how many calls a second are let in, above 0.
	RPS float64
	// Burst is how many may come at once; 0 means as many as in a second, 1 at
	// least.
	Burst int
}

// RateError says what is wrong with a rate.
type RateError struct {
	// Rate is its name, Field that of the field.
	Rate, Field string
	// Constraint is what does not hold.
	Constraint string
}

// Error names the rate, the field and the constraint.
func (e *RateError) Error() string {
	return fmt.Sprintf("set %s of rate %q: it %s", e.Field, e.Rate, e.Constraint)
}

// Validate checks that the values are in range. The errors for rates are a
// [*RateError] each, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Max < 0 {
		errs = append(errs, fmt.Errorf("set Max to %d: it is below zero", c.Max))
	}
	if len(c.Rates) > MaxRates {
		errs = append(errs, fmt.Errorf("set Rates: %d are more than %d", len(c.Rates), MaxRates))
	}
	seen := map[string]bool{}
	for _, r := range c.Rates {
		wrong := func(bad bool, field, constraint string) {
			if bad {
				errs = append(errs, &RateError{r.Name, field, constraint})
			}
		}
		wrong(r.Name == "", "Name", "is missing")
		wrong(seen[r.Name], "Name", "is that of another rate")
		wrong(strings.Contains(strings.TrimSuffix(r.Method, "*"), "*"), "Method", "has a * that is not its end")
		wrong(strings.HasPrefix(r.Method, "/"), "Method", "begins with a /, want it as in orders.v1.Orders/Get")
		wrong(strings.Contains(r.Caller, "*") && r.Caller != EachCaller, "Caller", "has a * in it, want the whole name, or * for each caller by itself")
		wrong(r.RPS == 0, "RPS", "is missing, or 0: want how many calls a second are let in, such as 10 or 0.5")
		wrong(r.RPS != 0 && !(r.RPS > 0 && r.RPS <= MaxRPS), "RPS", fmt.Sprintf("is not above 0 and at most %.0f", MaxRPS)) // so written, it finds a NaN
		wrong(r.Burst < 0, "Burst", "is below zero")
		seen[r.Name] = true
	}
	return errors.Join(errs...)
}

// compiled is a configuration in use.
type compiled struct {
	Config

	rates []*rate
}

// compile makes a configuration usable, with the counts of the rates that stay.
func compile(c Config, old *compiled) *compiled {
	out := &compiled{Config: c}
	out.Rates = slices.Clone(c.Rates)
	for _, r := range out.Rates {
		i := slices.IndexFunc(old.rates, func(o *rate) bool { return o.Rate == r })
		if i >= 0 {
			out.rates = append(out.rates, old.rates[i])
		} else {
			out.rates = append(out.rates, newRate(r))
		}
	}
	return out
}

// rate is a Rate in use.
type rate struct {
	Rate

	prefix   string        // what the method begins with
	exact    bool          // it is the whole method
	interval time.Duration // between two calls
	ahead    time.Duration // how far calls may be ahead of that
	bucket   bucket        // of all callers, or of the one that proved its name
	said     bucket        // of those that only say this name
	each     *buckets      // of each caller; nil where they have one
	proved   bool          // the name is one that only who proves it can have
	rejected *RejectedError
}

func newRate(r Rate) *rate {
	out := &rate{Rate: r, exact: true, prefix: r.Method, proved: formOfProved(r.Caller)}
	if prefix, ok := strings.CutSuffix(r.Method, "*"); ok || r.Method == "" {
		out.prefix, out.exact = prefix, false
	}
	burst := cmp.Or(float64(r.Burst), math.Max(1, math.Ceil(r.RPS)))
	out.interval = time.Duration(float64(time.Second) / r.RPS)
	out.ahead = time.Duration(min((burst-1)*float64(out.interval), float64(24*365*time.Hour)))
	reason := RateMethod
	if r.Caller != "" {
		reason = RateCaller
	}
	out.rejected = newRejected(reason, r.Name)
	if r.Caller == EachCaller {
		out.each = newBuckets()
	}
	return out
}

// matches tells whether the rate is for a call.
func (r *rate) matches(method, caller string, proved bool) bool {
	if r.exact && method != r.prefix || !r.exact && !strings.HasPrefix(method, r.prefix) {
		return false
	}
	return r.Caller == "" || r.each != nil || r.Caller == caller && (proved || !r.proved)
}

// take lets a call in, or says how long to wait until one is.
func (r *rate) take(now time.Duration, caller string, proved bool) (wait time.Duration, ok bool) {
	b := &r.bucket
	switch {
	case r.each != nil:
		b = r.each.find(now, caller, proved)
	case r.Caller != "" && !proved:
		b = &r.said
	}
	return b.take(now, r.interval, r.ahead)
}

// bucket counts by the generic cell rate algorithm (ITU-T I.371): it is the time at
// which the next call would come if all came evenly. One in the past is a bucket in
// which nothing is left to count.
type bucket struct {
	hash atomic.Uint64 // of the caller whose it is, in buckets
	next atomic.Int64
}

func (b *bucket) take(now, interval, ahead time.Duration) (wait time.Duration, ok bool) {
	for {
		next := b.next.Load()
		at := max(next, int64(now))
		if early := time.Duration(at) - now - ahead; early > 0 {
			return early, false
		}
		if b.next.CompareAndSwap(next, at+int64(interval)) {
			return 0, true
		}
	}
}

// buckets are those of callers, in memory of a fixed size. A caller for which there is
// no place left shares that of another one, which has proved who it is or has not, as
// it has itself.
type buckets struct {
	seed   maphash.Seed
	places []bucket
}

func newBuckets() *buckets {
	return &buckets{seed: maphash.MakeSeed(), places: make([]bucket, callerPlaces)}
}

func (b *buckets) find(now time.Duration, caller string, proved bool) *bucket {
	h := max(maphash.String(b.seed, caller), 1)
	set := b.places[setOf(h, proved):][:callerWays]
	for i := range set {
		if set[i].hash.Load() == h {
			return &set[i]
		}
	}
	for i := range set {
		// Nothing is lost with a bucket in the past.
		old := set[i].hash.Load()
		if (old == 0 || set[i].next.Load() <= int64(now)) && (set[i].hash.CompareAndSwap(old, h) || set[i].hash.Load() == h) {
			return &set[i]
		}
	}
	return &set[h>>32%callerWays]
}
