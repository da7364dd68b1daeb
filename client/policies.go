package client

import "plinth.internal/client/balancer"

// policies are those of one list, by name: what a policy knows, such as whose turn it
// is, means nothing for another list.
type policies map[string]balancer.Policy

func newPolicies() policies {
	all := policies{}
	for _, name := range balancer.Names() {
		if p, err := balancer.New(name); err == nil { // as it is for all names
			all[name] = p
		}
	}
	return all
}

// get finds a policy, the default for an unknown name.
func (p policies) get(name string) balancer.Policy {
	if of := p[name]; of != nil {
		return of
	}
	return p[balancer.NameAdaptive]
}
