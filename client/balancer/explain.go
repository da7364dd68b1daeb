package balancer

// FailureWeight is how much a share of failures makes a call dearer: its cost is
// multiplied by one and the share times this.
const FailureWeight = failureWeight

// Alike is the multiple of the lowest cost up to which chance decides.
const Alike = alike

// Endpoint finds the record of an address; nil if the last list did not have it.
// It is for people who ask what is known: policies find endpoints in a [List].
func (s *Set) Endpoint(addr string) *Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoints[addr]
}
