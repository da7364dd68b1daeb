package balancer

import (
	"math"
	"math/bits"
	"slices"
)

const (
	// ringPoints is how many places an endpoint of the default weight has on the
	// ring. The number depends on nothing but its own weight, so that the places of
	// one endpoint never move because of another one.
	ringPoints = 64
	// ringMost is the most places one endpoint may have.
	ringMost = 16 * ringPoints
	// ringWalk is how many places a pick looks at before it takes one that is
	// fuller than it should be.
	ringWalk = 512
	// loadFactor is how much more than the mean an endpoint may have in flight
	// ("Consistent Hashing with Bounded Loads"; 1.25 is the value of its authors'
	// deployments).
	loadFactor = 1.25
)

// ConsistentHash sends calls of the same key to the same endpoint, in all
// processes that have the same list: each endpoint has places on a ring, and a
// call goes to the first place from its key's on. When one of n endpoints goes,
// only its own keys move. An endpoint that has more than 1.25 times its part of
// this client's calls in flight, is closed, or failed in this call, is passed
// over: its calls go on to the next place. It does not spare endpoints that warm
// up: the calls would not find what they left at the endpoint. The zero value is
// ready to use.
type ConsistentHash struct {
	// Rand is as in [Adaptive]; it places the calls without a key.
	Rand func() uint64
}

// Pick implements [Policy].
func (p *ConsistentHash) Pick(l *List, r Request) int {
	if l.Len() == 0 {
		return -1
	}
	var place uint64
	if r.Key == "" {
		place = random(p.Rand)
	} else {
		place = hash(r.Key)
	}
	ring := l.ring()
	// The call itself counts: an idle fleet can take one.
	perWeight := loadFactor * float64(l.endpoints[0].fleet.inFlight.Load()+1) / ring.weight
	start := ring.from(place)
	full, fuller := -1, -1 // the first that is ready but full, and the first at twice its bound
	for k := range min(ringWalk, len(ring.points)) {
		i := ring.at(start + k)
		if l.rank(i, &r) != ready {
			continue
		}
		e := l.endpoints[i]
		bound := math.Ceil(perWeight * float64(e.weight.Load()))
		switch load := float64(e.inFlight.Load() + 1); {
		case load <= bound:
			return i
		case full < 0 && load <= 2*bound:
			full = i
		case fuller < 0:
			fuller = i
		}
	}
	// Too many are closed for the others to keep within the bound.
	if full >= 0 {
		return full
	}
	if fuller >= 0 {
		return fuller
	}
	return l.next(ring, start, &r)
}

// next is the first on the ring of the best rank there is.
func (l *List) next(ring *ring, start int, r *Request) int {
	first, best := -1, last+1
	for k := range len(ring.points) {
		i := ring.at(start + k)
		if c := l.rank(i, r); c < best {
			if first, best = i, c; c == ready {
				break
			}
		}
	}
	return first
}

// ring is a list of places in order. A place is the upper 40 bits of a hash and,
// in the lower 24, the index of its endpoint.
type ring struct {
	points []uint64
	weight float64 // of all endpoints together
}

const indexBits = 24

func newRing(endpoints []*Endpoint) *ring {
	r := &ring{points: make([]uint64, 0, len(endpoints)*ringPoints)}
	for i, e := range endpoints {
		weight := e.weight.Load()
		r.weight += float64(weight)
		place := hash(e.addr)
		for range min(max(weight*ringPoints/DefaultWeight, 1), ringMost) {
			place += golden
			r.points = append(r.points, mix(place)>>indexBits<<indexBits|uint64(i)&(1<<indexBits-1))
		}
	}
	r.points = ordered(r.points)
	return r
}

// ordered sorts hashes. They are spread evenly, so that putting each where a hash
// of its size should be leaves next to nothing to do: the first pick on a large
// list waits for this.
func ordered(points []uint64) []uint64 {
	size := bits.Len(uint(len(points)))
	shift := 64 - size
	starts := make([]int32, 1<<size+1)
	for _, p := range points {
		starts[p>>shift+1]++
	}
	for i := 1; i < len(starts); i++ {
		starts[i] += starts[i-1]
	}
	sorted := make([]uint64, len(points))
	for _, p := range points {
		i := starts[p>>shift]
		starts[p>>shift]++
		sorted[i] = p
	}
	for i := 1; i < len(sorted); i++ {
		p, k := sorted[i], i
		for ; k > 0 && sorted[k-1] > p; k-- {
			sorted[k] = sorted[k-1]
		}
		sorted[k] = p
	}
	return sorted
}

// from is the first place from a hash on.
func (r *ring) from(place uint64) int {
	i, _ := slices.BinarySearch(r.points, place>>indexBits<<indexBits)
	return i
}

// at is the index of the endpoint at a place, counted on past the end.
func (r *ring) at(place int) int {
	return int(r.points[place%len(r.points)] & (1<<indexBits - 1))
}

// hash is FNV-1a, and a finalizer because FNV leaves the upper bits of short keys
// alike. It must not change: all processes must agree on it.
func hash(key string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 0x100000001b3
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
