package sim

import "time"

type kind uint8

const (
	arrival    kind = iota // the next call begins
	request                // a request reaches its server
	completion             // a server may have finished a call
	mishap                 // a black hole answers
	reply                  // an answer reaches its client
	cancel                 // the end of a call's deadline reaches its server
	redraw                 // a server's neighbours change
	onset                  // the scenario's fault begins
	probe                  // a probe reaches its server
	probed                 // its answer reaches the client
	patience               // a client waits no longer for its probes
)

type event struct {
	at     time.Duration
	seq    uint64 // keeps events of one instant in order
	kind   kind
	server int32
	call   *call
	probe  *question
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// agenda is a heap of events. It has four children to a node, which halves its
// depth, and is written out because container/heap would box every event.
type agenda struct {
	events []event
	seq    uint64
}

func (a *agenda) push(e event) {
	e.seq = a.seq
	a.seq++
	a.events = append(a.events, e)
	i := len(a.events) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !e.before(&a.events[parent]) {
			break
		}
		a.events[i] = a.events[parent]
		i = parent
	}
	a.events[i] = e
}

func (a *agenda) pop() event {
	top := a.events[0]
	last := len(a.events) - 1
	e := a.events[last]
	a.events[last] = event{}
	a.events = a.events[:last]
	if last == 0 {
		return top
	}
	i := 0
	for {
		first := 4*i + 1
		if first >= last {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, last); c++ {
			if a.events[c].before(&a.events[least]) {
				least = c
			}
		}
		if !a.events[least].before(&e) {
			break
		}
		a.events[i] = a.events[least]
		i = least
	}
	a.events[i] = e
	return top
}
