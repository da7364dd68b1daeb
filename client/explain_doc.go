package client

import "time"

// ServiceExplained is what a client knows of one service at a moment, and why
// its calls go where they go. Times that are not known or do not apply are zero.
// It is for people and for /debug/clients: the values are read one after the
// other, so that under load they need not belong to the same instant.
type ServiceExplained struct {
	// Service is the name of the service.
	Service string `json:"service"`
	// Why says in a sentence who takes the calls, and what keeps them back.
	Why string `json:"why"`
	// Target is where gRPC calls go in place of the registry's instances, with
	// an instance picked by somebody else; "" if they do not.
	Target string `json:"target,omitempty"`
	// Registry is where the list of instances comes from.
	Registry ListExplained `json:"registry"`
	// Instances are sorted by protocol and ID. One that is called over two
	// protocols is there twice: it is judged for each.
	Instances []InstanceExplained `json:"instances"`
	// Protocols are what the instances are compared with, for each protocol in use.
	Protocols []ProtocolExplained `json:"protocols"`
	// Breakers are the service's own and those of methods that have one.
	Breakers []BreakerExplained `json:"breakers"`
	// RetryTokens is what is left for retries, of at most RetryTokensMax.
	RetryTokens    float64 `json:"retry_tokens"`
	RetryTokensMax float64 `json:"retry_tokens_max"`
	// Settings are those of the service, Method "", and those of the methods
	// called so far that have others.
	Settings []SettingsExplained `json:"settings"`
	// Totals says how often each kind of event has happened.
	Totals map[string]uint64 `json:"totals"`
	// Events are the last ones of each kind, the newest first.
	Events []EventExplained `json:"events"`

	nobody []string // why nobody can be called, for Why
}

// ListExplained is where a list of instances comes from.
type ListExplained struct {
	// Kind is the kind of the registry ("etcd").
	Kind string `json:"kind"`
	// Source is registry, snapshot or fallback; "" while there is no list.
	Source string `json:"source"`
	// Revision is the registry's own number for the list, 0 if it has none.
	Revision int64 `json:"revision"`
	// At is when the registry last confirmed the list, AgeS how many seconds ago.
	At   time.Time `json:"at,omitzero"`
	AgeS float64   `json:"age_s"`
	// Error is what is wrong with the registry, "" if nothing is.
	Error string `json:"error,omitempty"`
}

// The states of an [InstanceExplained].
const (
	StateUp          = "up"
	StateDraining    = "draining"
	StateQuarantined = "quarantined"
	StateOutside     = "outside"
	StateGone        = "gone"
)

// InstanceExplained is what a client knows of one instance.
type InstanceExplained struct {
	// ID is the instance's ID, Protocol is grpc, http or netrpc, Addr where it is called.
	ID       string `json:"id"`
	Protocol string `json:"protocol"`
	Addr     string `json:"addr"`
	// Why says in a sentence why it gets calls, or why not.
	Why string `json:"why"`
	// Zone and Version are what the instance says; Weight is its share relative
	// to the others.
	Zone    string `json:"zone,omitempty"`
	Version string `json:"version,omitempty"`
	Weight  int64  `json:"weight"`
	// State is what the registry says: up, draining, or quarantined for one
	// that it has lost without a word; or outside for one that is not in this
	// client's subset, of which therefore no more is known; or gone for one that has
	// left the list while calls run on it. LostAt is since when it is lost, which one
	// that is draining may be as well.
	State  string    `json:"state"`
	LostAt time.Time `json:"lost_at,omitzero"`
	// Connection is the state of the connection and of the health check on it.
	Connection ConnectionExplained `json:"connection"`
	// Picks is how many of this client's attempts began in the last ten seconds,
	// streams among them, and Share the part of all instances' attempts, from 0 to 1.
	Picks int     `json:"picks_10s"`
	Share float64 `json:"share_10s"`
	// Calls are the outcomes in the last ten seconds that the instance is judged
	// by, but since the last ejection or return, and Failures how many of them are
	// failures. It is not judged by the Refused, which it was too busy for, nor by the
	// Ignored: those that the caller gave up, or that it handed back.
	Calls    int `json:"calls_10s"`
	Failures int `json:"failures_10s"`
	Refused  int `json:"refused_10s"`
	Ignored  int `json:"ignored_10s"`
	// Run is the number of failures since the last success.
	Run int `json:"failures_in_a_row"`
	// InFlight is the number of attempts that have not ended.
	InFlight int64 `json:"in_flight"`
	// Warm is the part of its calls that it takes while it warms up, 1 = all.
	Warm float64 `json:"warm"`
	// Cost is what the adaptive policies compare, and what it is made of.
	Cost CostExplained `json:"cost"`
	// Ejection is nil for an instance that has not been ejected lately.
	Ejection *EjectionExplained `json:"ejection,omitempty"`
	// Routes are the names of the rules that reserve the instance for their calls.
	Routes []string `json:"routes,omitempty"`

	verdict  verdict // what Why says
	compared bool    // its cost is one of those whose median is taken
}

// ConnectionExplained is the way to an instance.
type ConnectionExplained struct {
	// State is connecting, ready, idle or failed for gRPC, where the best of the
	// client's connections counts; for HTTP and net/rpc, which connect when there
	// is a call, ready or failed. "" while it is not known.
	State string `json:"state"`
	// Health is what the instance says of itself over gRPC: serving, asked
	// while there is no answer, not_serving; "" where it is not asked. Over HTTP
	// and net/rpc it is silent from a call that timed out until an answered ping.
	Health string `json:"health,omitempty"`
	// Error is why it cannot be called, or why the last connection to it could
	// not be made.
	Error string `json:"error,omitempty"`
	// Failures is how many connections in a row failed, and RetryS in how many
	// seconds the next one may be made; HTTP and net/rpc only.
	Failures int64   `json:"failures,omitempty"`
	RetryS   float64 `json:"retry_s,omitempty"`
	// TLS tells whether the connection that was made last has TLS, absent while
	// none was. Peer is whom the instance's certificate is for.
	TLS  *bool  `json:"tls,omitempty"`
	Peer string `json:"peer,omitempty"`
}

// CostExplained is the cost of a call to an instance: latency, times load and
// one, times a penalty for failures, times a factor for another zone, over the
// weight.
type CostExplained struct {
	// Seconds is the cost; Relative is it as a multiple of the median of the
	// instances that can be called, 0 if there is nobody to compare with.
	Seconds  float64 `json:"seconds"`
	Relative float64 `json:"relative"`
	// LatencyMS is the latency that the next call is expected to have, and
	// OldestMS the age of the oldest call in flight, which is a floor of it.
	LatencyMS float64 `json:"latency_ms"`
	OldestMS  float64 `json:"oldest_ms"`
	// Load is the number of calls in flight on the instance, as far as known:
	// those of other clients are known where it reports them.
	Load float64 `json:"load"`
	// FailureShare is the share of its calls that fail beyond what is the case
	// everywhere.
	FailureShare float64 `json:"failure_share"`
	// ZoneFactor is what the cost is multiplied by for the instance's zone: 1 for
	// the client's own, and where zones are not known.
	ZoneFactor float64 `json:"zone_factor"`
	// Reporting says whether the instance reports its load, ReportAgeS how old
	// the last report is.
	Reporting  bool    `json:"reporting"`
	ReportAgeS float64 `json:"report_age_s,omitempty"`
}

// EjectionExplained is an ejection that lasts or is not forgotten yet.
type EjectionExplained struct {
	// Now says whether the instance is ejected at the moment.
	Now bool `json:"now"`
	// KeptOut says whether it gets no calls for it.
	KeptOut bool `json:"kept_out"`
	// Until is when one call may try it, InS in how many seconds; zero when
	// that is over. Trial says that a call is trying it.
	Until time.Time `json:"until,omitzero"`
	InS   float64   `json:"in_s"`
	Trial bool      `json:"trial"`
	// Reason is consecutive, share or trial; Share is the share of failures
	// that led to the first of the ejections that followed each other, of which
	// there were Times.
	Reason string  `json:"reason"`
	Share  float64 `json:"share"`
	Times  int     `json:"times"`
}

// ProtocolExplained is the fleet over one protocol.
type ProtocolExplained struct {
	// Protocol is grpc, http or netrpc.
	Protocol string `json:"protocol"`
	// Instances is how many are in the list, Ejected how many of them are
	// ejected. Panic says that so many are ejected that nobody is kept out.
	Instances int  `json:"instances"`
	Ejected   int  `json:"ejected"`
	Panic     bool `json:"panic"`
	// LatencyMS, Load and FailureShare are the means that instances are
	// compared with.
	LatencyMS    float64 `json:"latency_ms"`
	Load         float64 `json:"load"`
	FailureShare float64 `json:"failure_share"`
	// InFlight is the number of this client's attempts that have not ended.
	InFlight int64 `json:"in_flight"`
	// BounceLimit is the load from which an instance is asked to hand a first
	// attempt back; 0 where none reports its load.
	BounceLimit int64 `json:"bounce_limit"`
	// Routes are the service's routing rules, and the calls that match none; empty
	// without rules.
	Routes []RouteExplained `json:"routes,omitempty"`
}

// SettingsExplained are the [Settings] in use, in short.
type SettingsExplained struct {
	// Method is the full name of a method, "" for the service.
	Method string `json:"method"`
	// TimeoutMS and AttemptTimeoutMS are for a unary call or an HTTP request,
	// StreamTimeoutMS is for a stream; 0 means none.
	TimeoutMS        float64 `json:"timeout_ms"`
	StreamTimeoutMS  float64 `json:"stream_timeout_ms"`
	AttemptTimeoutMS float64 `json:"attempt_timeout_ms"`
	// Attempts includes the first one.
	Attempts int  `json:"attempts"`
	Hedge    bool `json:"hedge"`
	// Balancer and Breaker name policies.
	Balancer string `json:"balancer"`
	Breaker  string `json:"breaker"`
	// OwnBreaker says that the method has one of its own.
	OwnBreaker bool `json:"own_breaker"`
	// Ejection says whether instances are ejected; that of the service counts.
	Ejection bool `json:"ejection"`
}

// EventExplained is an [Event] that was told about the service.
type EventExplained struct {
	// At is when it was told.
	At time.Time `json:"at"`
	// Kind is rejected, retried, gave_up, failed, hedged, bounced, ejected,
	// returned, last_resort or fell_back.
	Kind string `json:"kind"`
	// Method is the method's own name, Instance the ID; "" where none is meant.
	Method   string `json:"method,omitempty"`
	Instance string `json:"instance,omitempty"`
	// Reason is why, in a word; Detail says more, cut at 300 bytes.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}
