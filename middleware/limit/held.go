package limit

import "sync/atomic"

// held is how many calls are in flight and how many streams and bodies of responses
// last, in one word: where several come at once each takes a place only if it is
// there.
type held int64

const (
	oneCall   held = 1
	oneStream held = 1 << 32
)

// lastingWeight is how many streams count as one call for Config.Max.
const lastingWeight = 10

func (h held) calls() int64   { return int64(h & (oneStream - 1)) }
func (h held) lasting() int64 { return int64(h >> 32) }

// used is how much of Config.Max is, streams counted in.
func (h held) used() int64 { return h.calls() + h.lasting()/lastingWeight }

// holding is a held that many change.
type holding struct{ n atomic.Int64 }

func (h *holding) load() held { return held(h.n.Load()) }
func (h *holding) swap(before, after held) bool {
	return h.n.CompareAndSwap(int64(before), int64(after))
}
func (h *holding) add(more held) { h.n.Add(int64(more)) }
