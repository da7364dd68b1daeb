package client

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"plinth.internal/client/outlier"
)

const (
	keptEvents = 10  // of each kind, so that many of one kind do not hide a rare other one
	keptDetail = 300 // bytes
)

// The kinds of an [EventExplained].
const (
	kindRejected = iota
	kindRetried
	kindGaveUp
	kindFailed
	kindHedged
	kindBounced
	kindEjected
	kindReturned
	kindLastResort
	kindFellBack
	kinds
)

// kindNames are the kinds as they are shown.
func kindNames() [kinds]string {
	return [kinds]string{"rejected", "retried", "gave_up", "failed", "hedged", "bounced", "ejected", "returned", "last_resort", "fell_back"}
}

// recentEvents remembers the last events of each service, in memory that does
// not grow. Events are told of what did not go as usual, so that a call that
// succeeds at once never comes here.
type recentEvents struct {
	mu       sync.Mutex
	services map[string]*[kinds]recentKind
}

type recentKind struct {
	total uint64
	ring  [keptEvents]EventExplained // the next one is written at total%keptEvents
}

// before puts itself before a function that is told of events.
func (r *recentEvents) before(next func(Event)) func(Event) {
	return func(e Event) {
		if service, kind, kept := explainEvent(e); service != "" {
			kept.At = time.Now()
			kept.Detail = cut(kept.Detail)
			r.add(service, kind, kept)
		}
		next(e)
	}
}

func (r *recentEvents) add(service string, kind int, e EventExplained) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.services[service]
	if all == nil {
		all = &[kinds]recentKind{}
		if r.services == nil {
			r.services = map[string]*[kinds]recentKind{}
		}
		r.services[service] = all
	}
	k := &all[kind]
	k.ring[k.total%keptEvents] = e
	k.total++
}

// of returns how often each kind was told, and the last events, newest first.
func (r *recentEvents) of(service string) (totals map[string]uint64, last []EventExplained) {
	totals, last = map[string]uint64{}, []EventExplained{}
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.services[service]
	if all == nil {
		return totals, last
	}
	for kind, name := range kindNames() {
		k := &all[kind]
		if k.total == 0 {
			continue
		}
		totals[name] = k.total
		for _, e := range k.ring[:min(k.total, keptEvents)] {
			e.Kind = name
			last = append(last, e)
		}
	}
	slices.SortStableFunc(last, func(a, b EventExplained) int { return b.At.Compare(a.At) })
	return totals, last
}

// explainEvent is what is kept of an event; the service is "" for one that is
// not, because the rest of the page shows it.
func explainEvent(e Event) (service string, kind int, kept EventExplained) {
	switch e := e.(type) {
	case CallRejected:
		return e.Service, kindRejected, EventExplained{Method: e.Method, Reason: "breaker", Detail: e.Err.Rejection.Error()}
	case CallUnplaced:
		return e.Service, kindRejected, EventExplained{Method: e.Method, Reason: "nobody", Detail: text(e.Err)}
	case CallRetried:
		return e.Service, kindRetried, EventExplained{Method: e.Method, Instance: e.Instance, Reason: string(e.Reason), Detail: text(e.Err)}
	case CallGaveUp:
		return e.Service, kindGaveUp, EventExplained{Method: e.Method, Instance: e.Instance, Reason: string(e.Reason), Detail: text(e.Err)}
	case CallFailed:
		return e.Service, kindFailed, EventExplained{Method: e.Method, Instance: e.Instance, Reason: string(e.Reason), Detail: text(e.Err)}
	case CallBounced:
		return e.Service, kindBounced, EventExplained{Method: e.Method, Instance: e.Instance, Reason: "busy"}
	case CallHedged:
		reason := "lost"
		if e.Won {
			reason = "won"
		}
		return e.Service, kindHedged, EventExplained{Method: e.Method, Reason: reason, Detail: "after " + short(e.After)}
	case InstanceEjected:
		detail := fmt.Sprintf("%s, out for %s, time %d", e.cause(), short(e.For), e.Times)
		if !e.KeptOut {
			detail += ", called all the same because too many are ejected"
		}
		return e.Service, kindEjected, EventExplained{Instance: e.Instance, Reason: e.Reason, Detail: detail}
	case InstanceReturned:
		return e.Service, kindReturned, EventExplained{Instance: e.Instance, Reason: "trial"}
	case LastResort:
		return e.Service, kindLastResort, EventExplained{Reason: "nobody healthy", Detail: fmt.Sprintf("%d can be called so", e.Instances)}
	case RouteFellBack:
		return e.Service, kindFellBack, EventExplained{Reason: string(e.Reason), Detail: e.detail()}
	}
	return "", 0, EventExplained{}
}

// cause is what the instance was ejected for, in numbers.
func (e InstanceEjected) cause() string {
	switch outlier.Reason(e.Reason) {
	case outlier.ReasonConsecutive:
		return fmt.Sprintf("%d calls in a row failed", e.Run)
	case outlier.ReasonTrial:
		return "its trial call failed"
	}
	return fmt.Sprintf("%.0f %% failed", 100*e.Share)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// cut copies, so that the whole text need not be kept. It cuts between runes.
func cut(s string) string {
	if len(s) <= keptDetail {
		return s
	}
	end := keptDetail
	for end > 0 && s[end]&0xC0 == 0x80 {
		end--
	}
	return string([]byte(s[:end])) + "…"
}
