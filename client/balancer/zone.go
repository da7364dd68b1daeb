package balancer

// DefaultAwayFactor is how much dearer a call to an instance of another zone is
// taken to be: what a client should do where nobody says otherwise. A [Set]
// knows no zones until [Set.SetAwayFactor] is called.
const DefaultAwayFactor = 1.3

// awayLook is one pick in how many has no regard to zones. What is known of the
// instances of other zones would otherwise fade into the mean, which is that of
// the client's own zone where all the calls go: nobody could ever find out that
// the others have become the quicker ones.
const awayLook = 32

// SetAwayFactor sets what the cost of an endpoint that is away (see [Member]) is
// multiplied by. 1 means that zones do not matter, which is also what a set
// begins with; less is taken for 1. It may be called at any time.
//
// [Adaptive] and [Precise] compare costs, so they know zones: a call stays in the
// client's zone if one of the candidates there costs at most a quarter more than
// the cheapest of all, and calls spill over where the own zone is slower, busier
// or failing. The other policies have no regard to zones.
func (s *Set) SetAwayFactor(factor float64) {
	s.fleet.away.store(max(factor, 1))
}

// awayFactor is what the cost of an endpoint is multiplied by for its zone.
func (e *Endpoint) awayFactor(v *view) float64 {
	if v.away > 1 && e.away.Load() {
		return v.away
	}
	return 1
}
