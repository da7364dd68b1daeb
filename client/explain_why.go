package client

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
)

// dear is the multiple of the median cost from which a sentence speaks of it.
// Costs differ by less all the time; a smaller one is told of where it shows, see
// [InstanceExplained.passedOver].
const dear = 2

// From when on a sentence speaks of something.
const (
	ill   = 0.05 // the share of failures
	vain  = 0.5  // the share of calls that came to nothing
	waits = 1000 // milliseconds that a call has been in flight
)

// why is the sentence about one instance. What comes first keeps calls away
// whatever comes later.
func (f *fleetExplained) why(now time.Time, e *InstanceExplained) string {
	var text string
	switch {
	case e.verdict == verdictOutside:
		text = fmt.Sprintf("not called: not in this client's subset, which is %d of the %d instances", f.narrowed.kept, f.narrowed.of)
		if e.InFlight > 0 {
			text += fmt.Sprintf("; its calls in flight are %d", e.InFlight)
		}
	case e.verdict == verdictDrains:
		text = "not called: it is draining, which it or an operator wants, and others can be called"
	case e.verdict == verdictHeld:
		text = "not called: the breaker holds back the calls to all instances" + also(e.against(), e.waiting())
	case e.verdict == verdictAway:
		text = f.unreachable(&e.Connection)
	case e.verdict == verdictLastResort:
		text = lastResort(e) + also(e.against(), e.waiting())
	case e.verdict == verdictEjected:
		text = f.ejected(e.Ejection, e.Cost.Relative)
	case e.Ejection != nil && e.Ejection.Now:
		text = f.ejected(e.Ejection, e.Cost.Relative) + also(e.against(), e.waiting())
	case e.Warm < 1:
		text = fmt.Sprintf("warming up: it has just started and takes %.0f %% of its share", 100*e.Warm) + also(e.against(), e.waiting())
	case f.byCost() && (e.Cost.Relative >= dear || e.passedOver()):
		text = f.dearer(e) + also(e.against())
	default:
		text = f.well(e)
	}
	if !e.LostAt.IsZero() && e.State != StateOutside {
		text += fmt.Sprintf("; quarantined: the registry lost it %s ago without a word, and it is called for as long as it answers", short(now.Sub(e.LostAt)))
	}
	return text + e.reserved()
}

// lastResort is the sentence about an instance that is called because nobody
// better can be.
func lastResort(e *InstanceExplained) string {
	c := &e.Connection
	switch {
	case e.State == StateDraining && c.Health != healthNotServing:
		return "called although it is draining: nobody else can be called"
	case c.Health == healthNotServing:
		return "called as a last resort: it says that it is not serving, and so do all that can be reached"
	case c.Health == healthSilent:
		return "called as a last resort: a call to it timed out and it has not answered a ping since, and nobody else can be called"
	}
	return fmt.Sprintf("called as a last resort: %d connections in a row failed, and nobody else can be called", c.Failures)
}

func (f *fleetExplained) unreachable(c *ConnectionExplained) string {
	switch {
	case c.Health == healthNotServing:
		return "not called: it says that it is not serving (" + c.Error + ")"
	case c.Health == healthAsked:
		return "not called yet: it is connected, and has not answered its health check"
	case c.Health == healthSilent:
		return "not called while others can be: a call to it timed out, and it has not answered a ping since"
	case c.State == connectionFailed && c.Failures > 0:
		text := fmt.Sprintf("not called while others can be: %d connections in a row failed, the next one may be tried %s", c.Failures, in(c.RetryS))
		if c.Error != "" {
			text += " (" + c.Error + ")"
		}
		return text
	case c.State == connectionFailed && c.Error != "":
		return "not called: it cannot be reached (" + c.Error + ")"
	case c.State == connectionFailed:
		return "not called: it could not be reached, and is being tried again"
	}
	return "not called yet: the connection is being made"
}

// ejected is the sentence about an instance that is ejected; relative is its cost.
func (f *fleetExplained) ejected(e *EjectionExplained, relative float64) string {
	var cause string
	switch outlier.Reason(e.Reason) {
	case outlier.ReasonConsecutive:
		cause = "for failures in a row"
	case outlier.ReasonShare:
		cause = fmt.Sprintf("because %.0f %% of its calls failed, much more than the others'", 100*e.Share)
	case outlier.ReasonTrial:
		cause = "because its trial call failed as well"
	}
	if e.Times > 1 {
		cause += fmt.Sprintf(", %d times running", e.Times)
	}
	switch {
	case !e.KeptOut && f.list.Panic:
		return "called although ejected " + cause + ": so many are that nobody is kept out"
	case !e.KeptOut:
		return "called although ejected " + cause + ": nobody else can be called"
	case e.Trial:
		return "not called: ejected " + cause + "; one call is trying it now"
	case e.InS > 0:
		return "not called: ejected " + cause + "; one call may try it " + in(e.InS)
	case f.byCost() && relative >= dear:
		// An open gate only lets it be picked; its cost still keeps it from being.
		return fmt.Sprintf("not called: ejected %s; one call may try it now, which can take long, as a call to it costs %.1f times the median", cause, relative)
	}
	return "not called: ejected " + cause + "; one call may try it now"
}

// byCost tells whether the service's policy compares costs.
func (f *fleetExplained) byCost() bool {
	return f.policy == balancer.NameAdaptive || f.policy == balancer.NamePrecise
}

// dearer names the term that makes the most of the cost.
func (f *fleetExplained) dearer(e *InstanceExplained) string {
	c, m := &e.Cost, &f.middle
	slow := c.LatencyMS / max(m.LatencyMS, 1e-6)
	busy := (c.Load + 1) / (m.Load + 1)
	sick := 1 + balancer.FailureWeight*c.FailureShare
	light := balancer.DefaultWeight / float64(max(e.Weight, 1))
	text := fmt.Sprintf("others are preferred: a call to it costs %.1f times the median, ", c.Relative)
	far := c.ZoneFactor
	switch max(slow, busy, sick, light, far) {
	case sick:
		digits := 0
		if c.FailureShare < 0.01 {
			digits = 1
		}
		return text + fmt.Sprintf("as %.*f %% more of its calls fail than of the others'", digits, 100*c.FailureShare)
	case slow:
		if c.OldestMS >= c.LatencyMS {
			return text + fmt.Sprintf("as a call has waited for it for %s, where others take %s", shortMS(c.OldestMS), shortMS(m.LatencyMS))
		}
		return text + fmt.Sprintf("as it takes %s where others take %s", shortMS(c.LatencyMS), shortMS(m.LatencyMS))
	case busy:
		return text + fmt.Sprintf("as it has %.1f calls in flight where others have %.1f", c.Load, m.Load)
	}
	if light >= far {
		return text + fmt.Sprintf("as its weight is %d", e.Weight)
	}
	return text + "as it is in zone " + e.Zone
}

// passedOver tells whether its cost has kept an instance without calls. Where the
// others are idle even a cost that differs little decides every time.
func (e *InstanceExplained) passedOver() bool {
	return e.Picks == 0 && e.InFlight == 0 && e.Cost.ZoneFactor <= 1 && e.Cost.Relative > balancer.Alike
}

func (f *fleetExplained) well(e *InstanceExplained) string {
	against := strings.Join(append(e.against(), e.waiting()...), ", ")
	if against == "" {
		against = "nothing is against it"
	}
	switch far := e.Cost.ZoneFactor; {
	case e.Picks == 0 && e.InFlight > 0:
		return fmt.Sprintf("called: %s, it had no new call in the last ten seconds, and its calls in flight are %d", against, e.InFlight)
	case e.Picks == 0 && e.Connection.State == "":
		return "had no call in the last ten seconds: nothing is known against it, nor whether it can be reached"
	case e.Picks == 0 && far > 1 && f.byCost():
		return fmt.Sprintf("can be called: it had no call in the last ten seconds, as it is in zone %s and a call to it counts %.3g times", e.Zone, far)
	case e.Picks == 0:
		return "can be called: " + against + ", and it had no call in the last ten seconds"
	}
	text := fmt.Sprintf("called: %s, it has %.0f %% of the calls", against, 100*e.Share)
	if e.Run > 0 && e.Run < e.Calls {
		text += fmt.Sprintf("; its last %d failed", e.Run)
	}
	return text
}

// against is what speaks against an instance that is called all the same, because
// the others are no better or are not known to be.
func (e *InstanceExplained) against() []string {
	var all []string
	for _, text := range []string{failing(e.Calls+e.Refused, e.Failures, "here"), refused(e.Calls+e.Refused, e.Refused, "here")} {
		if text != "" {
			all = append(all, text)
		}
	}
	if e.Ignored > 0 && float64(e.Ignored) >= vain*float64(e.Picks) {
		all = append(all, fmt.Sprintf("%d of its calls were given up by their callers or handed back", e.Ignored))
	}
	return all
}

// also is what comes at the end of a sentence.
func also(texts ...[]string) string {
	if all := slices.Concat(texts...); len(all) > 0 {
		return "; " + strings.Join(all, ", ")
	}
	return ""
}

// waiting tells of a call that has been in flight for long.
func (e *InstanceExplained) waiting() []string {
	if e.Cost.OldestMS < waits || e.Cost.OldestMS < e.Cost.LatencyMS {
		return nil
	}
	return []string{fmt.Sprintf("a call has waited for it for %s, and its calls in flight are %d", shortMS(e.Cost.OldestMS), e.InFlight)}
}

// failing says how many of the calls fail; "" for so few that it is not worth a word.
func failing(calls, failures int, where string) string {
	return part(failures, calls, "fails "+where, "fail "+where)
}

// refused says how many of the calls were too many.
func refused(calls, refused int, where string) string {
	return part(refused, calls, "is refused "+where+" as one too many", "are refused "+where+" as too many")
}

func part(n, of int, every, some string) string {
	switch {
	case of == 0 || float64(n) < ill*float64(of):
		return ""
	case n < of:
		return fmt.Sprintf("%.0f %% of the calls %s", 100*float64(n)/float64(of), some)
	}
	return fmt.Sprintf("every call %s (%d of %d)", every, n, of)
}

// why is the sentence about a service.
func (e *ServiceExplained) why(known bool) string {
	var parts []string
	if e.Target != "" {
		parts = append(parts, "over grpc the calls go to "+e.Target+", whose own balancer picks the instance")
		known = known || len(e.Protocols) == 0 && e.Registry.Error == "" // nobody has asked for the list
	}
	if !known {
		parts = append(parts, "no list of its instances is known")
		if e.Registry.Error == "" {
			parts[0] += " yet"
		}
	}
	if known {
		parts = append(parts, e.nobody...)
	}
	for _, p := range e.Protocols {
		parts = append(parts, e.whyProtocol(p))
	}
	if len(parts) == 0 {
		parts = append(parts, "no call has been made yet")
	}
	switch {
	case e.Registry.Error != "" && known:
		parts = append(parts, fmt.Sprintf("the registry fails, the list is from %s of %s ago (%s)", e.Registry.Source, shortMS(1000*e.Registry.AgeS), e.Registry.Error))
	case e.Registry.Error != "":
		parts = append(parts, "the registry fails ("+e.Registry.Error+")")
	case known && e.Registry.Source != "registry" && e.Registry.Source != "":
		parts = append(parts, "the list is from "+e.Registry.Source+", as the registry has given none")
	}
	for _, b := range e.Breakers {
		if b.Phase != breaker.Closed.String() {
			parts = append(parts, b.Why)
		}
	}
	if e.RetryTokens < 1 {
		parts = append(parts, "the retry budget is used up")
	}
	return strings.Join(parts, "; ")
}

// in is a time to come.
func in(s float64) string {
	if s <= 0 {
		return "now"
	}
	return "in " + shortMS(1000*s)
}

func shortMS(ms float64) string { return short(time.Duration(ms * float64(time.Millisecond))) }

// short makes a duration readable: two or three digits do.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= 100*time.Millisecond:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}
