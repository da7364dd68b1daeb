package limit

import (
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// callerSets of callerWays places are what callers are told apart by: as many
	// for those who proved who they are as for the others. One for which there is
	// no place left shares that of another of its kind.
	callerSets   = 256
	callerWays   = 4
	callerPlaces = 2 * callerSets * callerWays
	// maxCallerName is how much of a name is shown.
	maxCallerName = 80

	// askedTime is over what time it is counted what callers ask for.
	askedTime = time.Second
	// A caller asks for too much from overShare times its share on; and there must
	// be others with protectedShare of the calls at least who do not, or nobody
	// would be better off.
	overShare      = 1.1
	protectedShare = 0.1
	// scarceShare is the share of calls turned away from which on there is not
	// enough for all.
	scarceShare = 0.01
	// limitedTime is how long a caller stays limited after that: there is enough
	// because it is.
	limitedTime = 10 * time.Second
	// tellAgain is how long nothing is told of a caller that was told of.
	tellAgain = time.Minute
)

// caller is what is counted of one caller, or of several that share a place.
type caller struct {
	hash    atomic.Uint64 // 0 = the place is free
	name    atomic.Pointer[string]
	offered atomic.Int64 // calls since the window began
	over    atomic.Bool  // it asks for more than its share

	// Guarded by policy.mu.
	asked float64       // calls; what is t old counts e^(-t/askedTime)
	quiet time.Duration // until it may be told of again
}

// callers are told apart in memory of a fixed size, without a lock.
type callers struct {
	seed   maphash.Seed
	places []caller

	// Guarded by policy.mu.
	served, shed float64       // calls, counted as caller.asked
	greedy       bool          // there is one that asks for too much
	level        float64       // the share of a caller when there was not enough last
	enough       time.Duration // how long ago that was
	asked        []float64
	news         []Event // of callers, for whoever has closed the window
}

func newCallers() *callers {
	return &callers{seed: maphash.MakeSeed(), places: make([]caller, callerPlaces)}
}

// setOf is where the places begin that a caller may have. However many callers come
// that only say who they are, they get none of those of callers that have proved it.
func setOf(hash uint64, proved bool) uint64 {
	set := hash % callerSets
	if proved {
		set += callerSets
	}
	return set * callerWays
}

// find returns the caller's place.
func (c *callers) find(name string, proved bool) *caller {
	h := max(maphash.String(c.seed, name), 1)
	set := c.places[setOf(h, proved):][:callerWays]
	for i := range set {
		if set[i].hash.Load() == h {
			return &set[i]
		}
	}
	for i := range set {
		if set[i].hash.Load() != 0 {
			continue
		}
		if set[i].hash.CompareAndSwap(0, h) {
			shown := strings.Clone(name[:min(len(name), maxCallerName)])
			set[i].name.Store(&shown)
			return &set[i]
		}
		if set[i].hash.Load() == h { // another one was faster
			return &set[i]
		}
	}
	return &set[h>>32%callerWays]
}

// divide looks at what callers ask for after a window, and marks those that ask for
// more than their share if there is not enough for all. It returns how many calls
// came in the window. The caller holds policy.mu.
func (c *callers) divide(length time.Duration, shed float64) (offered float64) {
	keep := math.Exp(-float64(length) / float64(askedTime))
	c.asked = c.asked[:0]
	for i := range c.places {
		p := &c.places[i]
		n := float64(p.offered.Swap(0))
		if n == 0 && p.asked == 0 {
			continue
		}
		offered += n
		if p.asked = p.asked*keep + n; p.asked < 0.01 {
			p.asked = 0
			p.over.Store(false)
			p.name.Store(nil)
			p.hash.Store(0)
			continue
		}
		c.asked = append(c.asked, p.asked)
	}
	c.served = c.served*keep + offered - shed
	c.shed = c.shed*keep + shed
	level := math.Inf(1)
	if c.enough += length; c.shed > scarceShare*(c.shed+c.served) {
		slices.Sort(c.asked)
		level = fair(c.asked, c.served)
		c.level, c.enough = level, 0
	}
	if c.enough > limitedTime {
		c.level = math.Inf(1)
	}
	c.greedy = false
	for i := range c.places {
		p := &c.places[i]
		p.quiet = max(0, p.quiet-length)
		// A few calls more than the share are chance.
		over := p.asked > max(overShare*level, level+2*math.Sqrt(level)) || p.asked > c.level && p.over.Load()
		c.greedy = c.greedy || over
		if over != p.over.Load() {
			p.over.Store(over)
			if over {
				c.tell(p, level)
			}
		}
	}
	return offered
}

func (c *callers) tell(p *caller, level float64) {
	if p.quiet > 0 {
		return
	}
	p.quiet = tellAgain
	c.news = append(c.news, CallerLimited{Caller: p.shown(), Rate: perSecond(p.asked), Share: perSecond(level)})
}

// shown is the caller's name, or that of the first one of those that share a place.
func (p *caller) shown() string {
	if name := p.name.Load(); name != nil {
		return *name
	}
	return ""
}

// perSecond is the rate behind a count.
func perSecond(asked float64) float64 { return asked / askedTime.Seconds() }

// fair is the share that each caller may have of what was served: those that ask
// for less have what they ask for, and the others share the rest evenly. It is
// infinite if nobody, or next to nobody, asks for less. What is asked for is sorted.
func fair(asked []float64, served float64) float64 {
	given := 0.0
	for i, a := range asked {
		level := (served - given) / float64(len(asked)-i)
		if a > level {
			if given < protectedShare*served {
				break
			}
			return level
		}
		given += a
	}
	return math.Inf(1)
}
