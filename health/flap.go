package health

import (
	"fmt"
	"slices"
	"time"
)

// FlappingCheck is the name under which a process that is held back because its
// readiness changes too often shows up among the results; no check can have it.
const FlappingCheck = "flapping"

// What flapping is, and what it costs. The rule is that of RFC 2439 (route flap
// damping): what changes too often is left out until it has been quiet for a
// while. The pauses grow as those of a container that keeps crashing do in
// Kubernetes, from 10 s in steps of two. Their bounds are lower: an instance
// that is well and does not serve is capacity that somebody paid for.
const (
	flapFalls   = 3 // within flapWindow are forgiven; the next one is not
	flapWindow  = time.Minute
	flapHold    = 10 * time.Second
	flapHoldMax = 2 * time.Minute
)

// damper holds a process back that stops being ready too often. It is a state
// machine over the times it is told.
type damper struct {
	well  bool
	since time.Time   // when well became what it is
	falls []time.Time // the last ones outside of a hold, flapFalls at most
	until time.Time   // when the last hold ends, or has ended
	hold  time.Duration
	why   string
}

// observe learns whether the process would be ready by its checks alone.
func (d *damper) observe(now time.Time, well bool) {
	if forgiven := d.since.Add(flapWindow); d.well && !now.Before(forgiven) && forgiven.Before(d.until) {
		d.until = forgiven
	}
	if well == d.well {
		return
	}
	d.well, d.since = well, now
	if !well && !now.Before(d.until) {
		d.fall(now)
	}
}

// fall counts that a ready process is not ready any more.
func (d *damper) fall(now time.Time) {
	if d.hold > 0 && now.Sub(d.until) <= flapWindow {
		d.why = fmt.Sprintf("it stopped being ready again within %v of the last time", flapWindow)
	} else {
		d.hold = 0
		d.falls = slices.DeleteFunc(d.falls, func(t time.Time) bool { return now.Sub(t) > flapWindow })
		if len(d.falls) < flapFalls {
			d.falls = append(d.falls, now)
			return
		}
		d.why = fmt.Sprintf("it stopped being ready %d times within %v", flapFalls+1, flapWindow)
	}
	d.falls = nil
	d.hold = min(max(2*d.hold, flapHold), flapHoldMax)
	d.until = now.Add(d.hold)
}

// holds reports whether the process is held back.
func (d *damper) holds(now time.Time) bool { return now.Before(d.until) }

// result is the hold as a check.
func (d *damper) result(now time.Time) Result {
	r := Result{Name: FlappingCheck, Status: StatusOK, Critical: true, CheckedAt: now}
	if d.holds(now) {
		until := d.until
		if forgiven := d.since.Add(flapWindow); d.well && forgiven.Before(until) {
			until = forgiven
		}
		r.Status = StatusDown
		r.Error = fmt.Sprintf("held back until %s: %s", until.UTC().Format(time.RFC3339), d.why)
	}
	return r
}
