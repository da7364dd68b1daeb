package health

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Defaults of a check.
const (
	DefaultInterval         = 5 * time.Second
	DefaultTimeout          = 2 * time.Second
	DefaultFailureThreshold = 2
	DefaultSuccessThreshold = 1
)

// ConfirmInterval is the longest pause before a check is run again whose last
// run disagrees with its status, so that a threshold delays by seconds and not
// by intervals.
const ConfirmInterval = time.Second

// CheckOption changes one check.
type CheckOption func(*check)

// Interval is the pause between two runs of a check, DefaultInterval unless
// given; each pause varies by a fifth, so that instances do not check in step.
// Zero and less mean the default. While a threshold is being counted the pause
// is [ConfirmInterval] at most.
func Interval(d time.Duration) CheckOption {
	return func(c *check) {
		if d > 0 {
			c.interval = d
		}
	}
}

// Timeout is how long one run may take, DefaultTimeout unless given. Zero and
// less mean the default.
func Timeout(d time.Duration) CheckOption {
	return func(c *check) {
		if d > 0 {
			c.timeout = d
		}
	}
}

// FailureThreshold is how many runs in a row must fail before a check that was
// ok is down, DefaultFailureThreshold unless given: one lost packet takes no
// instance out of rotation. Until then the status stays ok, and the result has
// the error and the number of failures. A check that has not passed yet is down
// with its first failure. Zero and less mean the default.
func FailureThreshold(n int) CheckOption {
	return func(c *check) {
		if n > 0 {
			c.failAfter = n
		}
	}
}

// SuccessThreshold is how many runs in a row must pass before a check that was
// down is ok, DefaultSuccessThreshold unless given. A check that has never run
// is ok with its first pass. Zero and less mean the default.
func SuccessThreshold(n int) CheckOption {
	return func(c *check) {
		if n > 0 {
			c.passAfter = n
		}
	}
}

// NotCritical lets the process stay ready while the check fails; /health shows
// it as degraded.
func NotCritical() CheckOption { return func(c *check) { c.mayFail = true } }

// Critical keeps the process from being ready while the check fails. It is the
// default of every check that is not a [Dependency].
func Critical() CheckOption { return func(c *check) { c.mustPass = true } }

// Dependency says that the check is about another service. Such a check is not
// critical unless [Critical] says so: if it were, the outage of one service
// would take every service before it out of rotation, too, and those before
// them. A process that lacks another service can still answer what does not
// need it, and says better than a closed door what it cannot do.
func Dependency() CheckOption { return func(c *check) { c.dependency = true } }

// StartupOnly makes a check a condition of the start: it is run until it has
// passed once, and then never again. It is critical.
func StartupOnly() CheckOption { return func(c *check) { c.startupOnly = true } }

// For binds a check to gRPC services by their full names, such as
// "orders.v1.Orders": while it fails grpc.health.v1 answers NOT_SERVING for
// these, and /health shows degraded; the process and its other services stay
// ready. Every service must be one that the process serves, see
// [Health.Validate].
func For(services ...string) CheckOption {
	return func(c *check) {
		c.bound = true
		c.services = append(c.services, services...)
	}
}

// check is one named check.
type check struct {
	// As it was added.
	name        string
	fn          Func
	interval    time.Duration
	timeout     time.Duration
	failAfter   int
	passAfter   int
	mustPass    bool // Critical was given
	mayFail     bool // NotCritical was given
	dependency  bool
	startupOnly bool
	bound       bool // For was given
	services    []string
	critical    bool // what follows from all that

	// Guarded by Health.mu.
	result  Result
	passes  int  // in a row
	current *run // nil while it does not run
}

// Add adds a check under a name that must be new. Unless told otherwise it is
// critical. Once [Health.Run] has started the checks no more can be added. It
// errs on options that contradict one another.
func (h *Health) Add(name string, fn Func, opts ...CheckOption) error {
	if name == "" || fn == nil {
		return fmt.Errorf("add health check %q: it needs a name and a function", name)
	}
	c := &check{
		name: name, fn: fn, interval: DefaultInterval, timeout: DefaultTimeout,
		failAfter: DefaultFailureThreshold, passAfter: DefaultSuccessThreshold,
	}
	for _, o := range opts {
		o(c)
	}
	if err := c.settle(); err != nil {
		return fmt.Errorf("add health check %q: %w", name, err)
	}
	c.result = Result{
		Name: name, Status: StatusPending, Critical: c.critical, Error: "has not run yet",
		Dependency: c.dependency, StartupOnly: c.startupOnly, Services: c.services,
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started {
		return fmt.Errorf("add health check %q: the checks are running already; add it during setup", name)
	}
	if h.namedLocked(name) {
		return fmt.Errorf("add health check %q: the name is taken", name)
	}
	h.checks = append(h.checks, c)
	return nil
}

// settle decides what a failure means, and finds options that contradict.
func (c *check) settle() error {
	switch {
	case c.mustPass && c.mayFail:
		return errors.New("Critical and NotCritical exclude one another")
	case c.bound && (len(c.services) == 0 || slices.Contains(c.services, "")):
		return errors.New("For needs the full names of gRPC services")
	case c.bound && (c.mustPass || c.mayFail):
		return errors.New("For says what a failure stands against; leave out Critical and NotCritical")
	case c.startupOnly && (c.mayFail || c.bound):
		return errors.New("StartupOnly is for what the start waits for; leave out NotCritical and For")
	case c.startupOnly && c.dependency && !c.mustPass:
		return errors.New("StartupOnly makes the start wait for another service; add Critical if that is what you want")
	}
	c.critical = !c.bound && !c.mayFail && (c.mustPass || !c.dependency)
	return nil
}

func (h *Health) namedLocked(name string) bool {
	return name == FlappingCheck ||
		slices.ContainsFunc(h.checks, func(c *check) bool { return c.name == name }) ||
		slices.ContainsFunc(h.heartbeats, func(b *heartbeat) bool { return b.name == name })
}

// Validate errs where a check is bound to a gRPC service that the process does
// not serve. Call it once all services are there.
func (h *Health) Validate() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, c := range h.checks {
		for _, s := range c.services {
			if _, ok := h.services[s]; !ok {
				errs = append(errs, fmt.Errorf("health check %q is for the gRPC service %q, which is not registered here", c.name, s))
			}
		}
	}
	return errors.Join(errs...)
}

// blocks reports whether the check keeps the process from serving; Health.mu is
// held.
func (c *check) blocks() bool { return c.critical && c.result.Status != StatusOK }

// blocksService reports the same of one gRPC service.
func (c *check) blocksService(service string) bool {
	return c.result.Status != StatusOK && slices.Contains(c.services, service)
}

// recordLocked takes over the outcome of a run.
func (c *check) recordLocked(begun, ended time.Time, err error) {
	r := &c.result
	r.Latency, r.CheckedAt = ended.Sub(begun), ended
	if err != nil {
		c.passes = 0
		r.Failures++
		r.Error = err.Error()
		r.LastError, r.LastErrorAt = r.Error, ended
		if r.Status != StatusOK || r.Failures >= c.failAfter {
			r.Status = StatusDown
		}
		return
	}
	c.passes++
	r.Failures = 0
	if r.Status == StatusDown && c.passes < c.passAfter {
		r.Error = fmt.Sprintf("passed %d of the %d times in a row that are wanted after: %s", c.passes, c.passAfter, r.LastError)
		return
	}
	r.Status, r.Error = StatusOK, ""
}

// undecidedLocked reports whether the last run disagrees with the status.
func (c *check) undecidedLocked() bool {
	return c.result.Status == StatusOK && c.result.Failures > 0 || c.result.Status == StatusDown && c.passes > 0
}
