package framework

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/config"
)

// maxAttempts is the bound of retry.Policy.
const maxAttempts = 10

// defaultClient is the name in the section clients that stands for all
// services.
const defaultClient = "default"

// callSettings are what can be configured for a method. Zero values leave the
// setting to the next, less specific level.
type callSettings struct {
	Timeout        time.Duration   `yaml:"timeout" doc:"longest time of a call with all its attempts; 3s unless set, below zero for none; a stream it bounds only where it is set under methods"`
	AttemptTimeout time.Duration   `yaml:"attempt_timeout" doc:"longest time of one attempt of a call that may be repeated, over HTTP until the head of its response; the call's unless set"`
	Retry          retrySettings   `yaml:"retry"`
	Hedge          hedgeSettings   `yaml:"hedge"`
	Breaker        string          `yaml:"breaker" doc:"adaptive (the default), classic or off; one for the service, and one for each method that sets this or classic"`
	Classic        classicSettings `yaml:"classic"`
}

type retrySettings struct {
	MaxAttempts int           `yaml:"max_attempts" doc:"most attempts of a call, the first one counted in; 3 unless set, 1 for no retry"`
	Backoff     time.Duration `yaml:"backoff" doc:"longest pause before the first retry, doubled with each one; 25ms unless set"`
	MaxBackoff  time.Duration `yaml:"max_backoff" doc:"bound of the doubling; 1s unless set"`
}

type hedgeSettings struct {
	Enabled toggle        `yaml:"enabled" doc:"true sends a second attempt of a slow call that may be repeated, to another instance; false unless set"`
	Delay   time.Duration `yaml:"delay" doc:"time before the second attempt; unless set, what 95 % of the method's own calls take"`
}

type clientHTTPSettings struct {
	MaxConnections int `yaml:"max_connections" doc:"most connections to one instance over HTTP, in use or waiting for the next request; 256 unless set, below zero for no bound"`
}

type classicSettings struct {
	FailureShare float64       `yaml:"failure_share" doc:"share of failures above which a classic breaker opens; 0.5 unless set"`
	MinCalls     int           `yaml:"min_calls" doc:"calls within 10s below which it does not; 20 unless set"`
	OpenFor      time.Duration `yaml:"open_for" doc:"how long it stays open; 30s unless set"`
	Trials       int           `yaml:"trials" doc:"calls that are let through after that, all of which must succeed; 3 unless set"`
}

// ejectionSettings are one decision for all methods of a service.
type ejectionSettings struct {
	Enabled      toggle        `yaml:"enabled" doc:"false ejects nobody; true unless set"`
	Consecutive  int           `yaml:"consecutive" doc:"failures in a row that eject an instance; 5 unless set"`
	MinCalls     int           `yaml:"min_calls" doc:"calls within 10s below which their share of failures is not looked at; 10 unless set"`
	FailureShare float64       `yaml:"failure_share" doc:"share of failures that ejects; 0.5 unless set"`
	Worse        float64       `yaml:"worse" doc:"by how much that share must be above the other instances'; 0.3 unless set"`
	Base         time.Duration `yaml:"base" doc:"length of a first ejection, doubled with each one; 5s unless set"`
	Max          time.Duration `yaml:"max" doc:"bound of the doubling; 60s unless set"`
	MaxEjected   float64       `yaml:"max_ejected" doc:"share of the instances that may be out; if more would be, none is; 0.5 unless set"`
}

// clientSettings are what can be configured for a service.
type clientSettings struct {
	callSettings `yaml:",inline"`

	Target         string                   `hot:"false"            yaml:"target" doc:"for gRPC: a target of grpc's own in place of the registry, such as xds:///orders; {service} in it stands for the service; registry or unset for the registry, which calls over HTTP and net/rpc go by in any case"`
	TLS            clientTLSSettings        `yaml:"tls"`
	TokenFile      string                   `yaml:"token_file" doc:"file with a bearer token that calls over gRPC and HTTP are made with, in use within 1s of a change; needs tls.mode"`
	ConnectTimeout time.Duration            `yaml:"connect_timeout" doc:"longest time to make a connection; 500ms unless set"`
	HTTP           clientHTTPSettings       `yaml:"http"`
	Balancer       string                   `yaml:"balancer" doc:"adaptive (the default), precise, least_request, round_robin, weighted, consistent_hash, random or pick_first"`
	HashHeader     string                   `yaml:"hash_header" doc:"metadata or header whose value is the key of consistent_hash"`
	ZoneFactor     float64                  `yaml:"zone_factor" doc:"how much dearer a call to an instance of another zone than service.zone is taken to be, for adaptive and precise; 1.3 unless set, 1 for no regard to zones"`
	Subset         subsetSettings           `yaml:"subset"`
	Ejection       ejectionSettings         `yaml:"ejection"`
	Routes         map[string]routeSettings `yaml:"routes"`
	Methods        map[string]callSettings  `yaml:"methods"`
}

// toggle is a truth value that may be left unset.
type toggle int8

const (
	toggleUnset toggle = iota
	toggleOn
	toggleOff
)

// UnmarshalText takes what config takes for a bool.
func (t *toggle) UnmarshalText(b []byte) error {
	on, err := strconv.ParseBool(string(b))
	if err != nil {
		return errors.New("want true or false")
	}
	*t = toggleOff
	if on {
		*t = toggleOn
	}
	return nil
}

// MarshalText gives nothing where nothing is set.
func (t toggle) MarshalText() ([]byte, error) {
	switch t {
	case toggleOn:
		return []byte("true"), nil
	case toggleOff:
		return []byte("false"), nil
	}
	return nil, nil
}

// overwrite sets dst where there is something to set it to.
func (t toggle) overwrite(dst *bool) {
	if t != toggleUnset {
		*dst = t == toggleOn
	}
}

// Validate checks what the types cannot.
func (c *callSettings) Validate() error {
	var v violations
	v.negative("attempt_timeout", c.AttemptTimeout)
	v.addf(c.Retry.MaxAttempts < 0 || c.Retry.MaxAttempts > maxAttempts, "retry.max_attempts", "is not from 1 to %d", maxAttempts)
	v.negative("retry.backoff", c.Retry.Backoff)
	v.negative("retry.max_backoff", c.Retry.MaxBackoff)
	v.negative("hedge.delay", c.Hedge.Delay)
	v.addf(c.Breaker != "" && !oneOf(c.Breaker, breaker.Policies()...), "breaker", "is none of %s", strings.Join(breaker.Policies(), ", "))
	v.share("classic.failure_share", c.Classic.FailureShare)
	v.addf(c.Classic.MinCalls < 0, "classic.min_calls", "is below zero")
	v.negative("classic.open_for", c.Classic.OpenFor)
	v.addf(c.Classic.Trials < 0, "classic.trials", "is below zero")
	return errors.Join(v...)
}

// Validate checks what the types cannot.
func (c *clientSettings) Validate() error {
	var v violations
	v.addf(c.Balancer != "" && !oneOf(c.Balancer, balancer.Names()...), "balancer", "is none of %s", strings.Join(balancer.Names(), ", "))
	v.addf(strings.ContainsFunc(c.HashHeader, notInHeader), "hash_header", "is not a name of a header: want letters, digits, and - _ .")
	v.negative("connect_timeout", c.ConnectTimeout)
	v.checkTarget(c.Target)
	checkRoutes(&v, c.Routes)
	c.checkReach(&v)
	e := &c.Ejection
	v.addf(e.Consecutive < 0, "ejection.consecutive", "is below zero")
	v.addf(e.MinCalls < 0, "ejection.min_calls", "is below zero")
	v.share("ejection.failure_share", e.FailureShare)
	v.share("ejection.worse", e.Worse)
	v.negative("ejection.base", e.Base)
	v.negative("ejection.max", e.Max)
	v.share("ejection.max_ejected", e.MaxEjected)
	return errors.Join(append(v, c.callSettings.Validate())...)
}

// notInHeader reports what neither HTTP nor gRPC has in a header's name.
func notInHeader(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
}

// violations are values that are not in range.
type violations []error

func (v *violations) addf(bad bool, key, format string, args ...any) {
	if bad {
		*v = append(*v, config.Invalid(key, format, args...))
	}
}

func (v *violations) negative(key string, d time.Duration) { v.addf(d < 0, key, "is below zero") }

// userinfo refuses addresses with a user or a password in them. Do says what to do
// about it.
func (v *violations) userinfo(key, do string, addrs ...string) {
	if slices.ContainsFunc(addrs, config.HasUserinfo) {
		*v = append(*v, config.InvalidUnshown(key, "has a user or a password in it, which would be shown with the rest of it; %s", do))
	}
}

func (v *violations) share(key string, x float64) {
	v.addf(!(x >= 0 && x <= 1), key, "is not a share between 0 and 1") // so written, it finds a NaN
}

// Validate checks that the levels of each client fit together, and what files a
// change names; what is wrong on one level the level itself has said.
func (s *settings) Validate() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.Clients)) {
		if err := client.CheckName(name); err != nil {
			errs = append(errs, config.Invalid("clients."+name, "cannot be the name of a service: %v", err))
		}
	}
	if !s.levelsHold() {
		return errors.Join(errs...)
	}
	errs = append(errs, checkDefaultTarget(s.Clients))
	t := newClientTable(s.Clients)
	for _, k := range slices.SortedFunc(maps.Keys(t.resolved), clientKey.compare) {
		if err := t.resolved[k].Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%v, with what it has from less specific levels: %w", k, err))
		}
	}
	return errors.Join(append(errs, s.checkFiles(t)...)...)
}

// levelsHold reports that no level of a client has anything wrong by itself.
func (s *settings) levelsHold() bool {
	for _, c := range s.Clients {
		if c.Validate() != nil || c.TLS.Validate() != nil {
			return false
		}
		for _, m := range c.Methods {
			if m.Validate() != nil {
				return false
			}
		}
	}
	return true
}
