package registry

import (
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// lapseWindow and lapseShare say when lapses are so many that they say more
	// about the backend than about the instances.
	lapseWindow = 10 * time.Second
	lapseShare  = 0.30
	// returnGrace is the time that an instance in quarantine has at least to
	// announce itself again once a backend that failed is back.
	returnGrace = time.Minute
)

// roster decides which instances of a service may be called: those that the
// backend lists, and those that it has listed and that nobody withdrew. It is
// arithmetic on lists and times; whoever uses it serialises the calls.
type roster struct {
	source Source
	listed []Instance // sorted by ID
	absent []absence  // sorted by ID, none of them listed
	lapses []time.Time
	massed bool // the lapses of now have been found to be many
}

// absence is an instance in quarantine.
type absence struct {
	Instance

	since   time.Time
	expires time.Time
}

// outcome is what a new list has changed, beyond the instances themselves.
type outcome struct {
	lapsed []string   // newly in quarantine, sorted
	mass   *MassLapse // newly too many; without its service
}

// update takes a list of the backend, sorted by ID.
func (r *roster) update(list List, now time.Time) outcome {
	var out outcome
	switch r.source {
	case SourceFallback:
		r.listed = nil // a guess; nobody has announced them
	case SourceSnapshot:
		r.extend(now) // the backend has only now begun to be seen
	}
	// Most updates take nobody away and need neither of these.
	withdrawn := sync.OnceValue(func() map[string]bool { return setOf(list.Withdrawn) })
	addresses := sync.OnceValue(func() map[endpoint]bool { return endpointsOf(list.Instances) })
	gone := func(inst Instance) bool {
		return list.Explicit || inst.State == Draining || withdrawn()[inst.ID] || takenOver(inst, addresses())
	}
	var absent []absence
	for _, a := range r.absent {
		if !contains(list.Instances, a.ID) && !gone(a.Instance) {
			absent = append(absent, a)
		}
	}
	next := 0 // of list.Instances: both lists are sorted
	for _, inst := range r.listed {
		for next < len(list.Instances) && list.Instances[next].ID < inst.ID {
			next++
		}
		if next < len(list.Instances) && list.Instances[next].ID == inst.ID || gone(inst) {
			continue
		}
		absent = append(absent, absence{inst, now, now.Add(QuarantineTime)})
		out.lapsed = append(out.lapsed, inst.ID)
	}
	slices.SortFunc(absent, func(a, b absence) int { return strings.Compare(a.ID, b.ID) })
	fromSnapshot := r.source == SourceSnapshot
	r.source, r.listed, r.absent = SourceRegistry, list.Instances, absent
	if !fromSnapshot { // that one is old, and what has changed since has not happened now
		out.mass = r.count(len(out.lapsed), now)
	}
	return out
}

// count adds to the lapses, and returns what to tell if they have become many.
func (r *roster) count(lapsed int, now time.Time) *MassLapse {
	r.lapses = slices.DeleteFunc(r.lapses, func(t time.Time) bool { return now.Sub(t) >= lapseWindow })
	if len(r.lapses) == 0 {
		r.massed = false
	}
	for range lapsed {
		r.lapses = append(r.lapses, now)
	}
	gone := len(r.lapses)
	of := gone + len(r.listed)
	many := float64(gone) > lapseShare*float64(of) && (gone > 1 || len(r.listed) == 0)
	news := many && !r.massed
	r.massed = many
	if !news {
		return nil
	}
	return &MassLapse{Gone: gone, Of: of}
}

// begin takes the list to start from.
func (r *roster) begin(source Source, listed []Instance, absent []absence) {
	r.source, r.listed, r.absent = source, listed, absent
}

// drop takes an instance out of quarantine, and reports whether it was there.
func (r *roster) drop(id string) (absence, bool) {
	i, ok := slices.BinarySearchFunc(r.absent, id, func(a absence, id string) int { return strings.Compare(a.ID, id) })
	if !ok {
		return absence{}, false
	}
	a := r.absent[i]
	r.absent = slices.Delete(r.absent, i, i+1)
	return a, true
}

// expire takes those out of quarantine whose time is over.
func (r *roster) expire(now time.Time) (expired []absence) {
	var rest []absence
	for _, a := range r.absent {
		if now.Before(a.expires) {
			rest = append(rest, a)
		} else {
			expired = append(expired, a)
		}
	}
	r.absent = rest
	return expired
}

// extend gives those in quarantine the time to announce themselves to a
// backend that is back: nobody could while it was away.
func (r *roster) extend(now time.Time) {
	for i := range r.absent {
		if grace := now.Add(returnGrace); r.absent[i].expires.Before(grace) {
			r.absent[i].expires = grace
		}
	}
}

// expiry returns when the next one's time is over; zero if there is none.
func (r *roster) expiry() (next time.Time) {
	for _, a := range r.absent {
		if next.IsZero() || a.expires.Before(next) {
			next = a.expires
		}
	}
	return next
}

// callable returns all instances, sorted by ID, and since when those in
// quarantine are absent. The results are the caller's.
func (r *roster) callable() ([]Instance, map[string]time.Time) {
	if len(r.absent) == 0 {
		return r.listed, nil
	}
	all := make([]Instance, 0, len(r.listed)+len(r.absent))
	all = append(all, r.listed...)
	since := make(map[string]time.Time, len(r.absent))
	for _, a := range r.absent {
		all = append(all, a.Instance)
		since[a.ID] = a.since
	}
	sortInstances(all)
	return all, since
}

func sortInstances(list []Instance) {
	byID := func(a, b Instance) int { return strings.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(list, byID) {
		slices.SortFunc(list, byID)
	}
}

func contains(sorted []Instance, id string) bool {
	_, ok := slices.BinarySearchFunc(sorted, id, func(i Instance, id string) int { return strings.Compare(i.ID, id) })
	return ok
}

func setOf(ids []string) map[string]bool {
	set := make(map[string]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// endpoint is one address for one protocol.
type endpoint struct{ protocol, address string }

func endpointsOf(list []Instance) map[endpoint]bool {
	set := make(map[endpoint]bool, 2*len(list))
	for _, inst := range list {
		for protocol, address := range inst.Endpoints {
			set[endpoint{protocol, address}] = true
		}
	}
	return set
}

// takenOver reports whether one of the instance's addresses is among those in
// use: then it was restarted in the same place under another ID, and what
// answers there is not it.
func takenOver(inst Instance, inUse map[endpoint]bool) bool {
	for protocol, address := range inst.Endpoints {
		if inUse[endpoint{protocol, address}] {
			return true
		}
	}
	return false
}
