package metrics

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxMethods bounds the methods of all services together; further ones
	// share overflow, one for each service, and where there are as many
	// services again, one for all of those.
	maxMethods = 1000
	overflow   = "other"
	// maxTraceID is as long as an exemplar may be and then some: prometheus
	// panics at 128 letters, and a trace ID has 32.
	maxTraceID = 64
	// exemplarInterval spaces the exemplars of one method and code: an
	// exemplar costs more than the rest of an observation, and only the last
	// one of a bucket is kept anyway.
	exemplarInterval = 10 * time.Millisecond
)

// durationBuckets suit calls from half a millisecond to ten seconds.
var durationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Calls are the rate, errors and duration of calls on one side, by service,
// method and code. It is a prometheus collector.
type Calls struct {
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	attempts *prometheus.CounterVec // nil on a server
	born     time.Time

	known atomic.Pointer[map[methodKey]*Method]
	mu    sync.Mutex // serialises writers of known
}

func newCalls(side, verb string) *Calls {
	c := &Calls{
		born: time.Now(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: side + "_call_duration_seconds",
			Help: "Duration of the calls " + verb + ", by their outcome.", Buckets: durationBuckets,
		}, []string{"service", "method", "code"}),
		inFlight: gauge(side+"_calls_in_flight", "Calls "+verb+" that are not over yet.", "service", "method"),
	}
	if side == "client" {
		c.attempts = counter("client_attempts_total", "Attempts of the calls made; more than calls where some were retried.", "service", "method")
	}
	return c
}

// Describe and Collect make Calls a prometheus.Collector.
func (c *Calls) Describe(ch chan<- *prometheus.Desc) {
	c.each(func(v prometheus.Collector) { v.Describe(ch) })
}

// Collect sends the current values.
func (c *Calls) Collect(ch chan<- prometheus.Metric) {
	c.each(func(v prometheus.Collector) { v.Collect(ch) })
}

func (c *Calls) each(do func(prometheus.Collector)) {
	do(c.duration)
	do(c.inFlight)
	if c.attempts != nil {
		do(c.attempts)
	}
}

// methodKey is what a caller knows of a method; its label is made of the last
// two once.
type methodKey struct{ service, group, name string }

func (k methodKey) label() string {
	if k.group == "" {
		return k.name
	}
	return k.group + "/" + k.name
}

// Method is the instruments of one method, looked up once and kept. The service
// is the name that the serving process has in the registry, on both sides; the
// method's label is "group/name", or the name where the group is "".
func (c *Calls) Method(service, group, name string) *Method {
	key := methodKey{service, group, name}
	if known := c.known.Load(); known != nil {
		if m, ok := (*known)[key]; ok {
			return m
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[methodKey]*Method{}
	if known := c.known.Load(); known != nil {
		key = bounded(*known, key)
		if m, ok := (*known)[key]; ok {
			return m
		}
		maps.Copy(next, *known)
	}
	m := &Method{calls: c, service: key.service, label: key.label()}
	m.inFlight = c.inFlight.WithLabelValues(m.service, m.label)
	if c.attempts != nil {
		m.attempts = c.attempts.WithLabelValues(m.service, m.label)
	}
	next[key] = m
	c.known.Store(&next)
	return m
}

// bounded is the key that counts for another one, which need not be known yet.
func bounded(known map[methodKey]*Method, key methodKey) methodKey {
	for _, k := range []methodKey{key, {service: key.service, name: overflow}} {
		if _, ok := known[k]; ok {
			return k
		}
	}
	switch n := len(known); {
	case n < maxMethods:
		return key
	case n < 2*maxMethods:
		return methodKey{service: key.service, name: overflow}
	}
	return methodKey{service: overflow, name: overflow}
}

// Method is the instruments of one method.
type Method struct {
	calls    *Calls
	service  string
	label    string
	inFlight prometheus.Gauge
	attempts prometheus.Counter
	codes    [18]atomic.Pointer[outcome] // by gRPC code; the last one for all others
}

type outcome struct {
	duration     prometheus.Observer
	nextExemplar atomic.Int64 // nanoseconds since Calls.born
}

// Begin counts a call as in flight.
func (m *Method) Begin() { m.inFlight.Inc() }

// End counts a call's end: its code as a number and as a label, when it began,
// the attempts it took (0 on a server) and its trace ID, which becomes an
// exemplar ("" for none; what cannot be a trace ID is passed over).
func (m *Method) End(code int, label string, start time.Time, attempts int, traceID string) {
	m.inFlight.Dec()
	if m.attempts != nil && attempts > 0 {
		m.attempts.Add(float64(attempts))
	}
	now := time.Now()
	seconds := max(now.Sub(start), 0).Seconds()
	o := m.outcome(code, label)
	if traceID != "" && len(traceID) <= maxTraceID && utf8.ValidString(traceID) && o.wantsExemplar(now.Sub(m.calls.born)) {
		if e, ok := o.duration.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": traceID})
			return
		}
	}
	o.duration.Observe(seconds)
}

func (m *Method) outcome(code int, label string) *outcome {
	if code < 0 || code >= len(m.codes) {
		code = len(m.codes) - 1
	}
	o := m.codes[code].Load()
	if o == nil {
		o = &outcome{duration: m.calls.duration.WithLabelValues(m.service, m.label, label)}
		m.codes[code].Store(o) // the same child, whoever wins
	}
	return o
}

// wantsExemplar reports whether the last exemplar is old enough, and if so
// counts this moment as the last one.
func (o *outcome) wantsExemplar(at time.Duration) bool {
	next := o.nextExemplar.Load()
	return int64(at) >= next && o.nextExemplar.CompareAndSwap(next, int64(at+exemplarInterval))
}
