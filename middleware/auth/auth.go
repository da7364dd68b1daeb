// Package auth says who makes a call and whether he may: by the certificate of
// the connection (mTLS) or by a bearer token (a JWT, RFC 7519), over gRPC and HTTP
// alike, and by a policy that is declared in one place.
//
// Guarantees:
//   - What no rule of the [Policy] is for is refused. Only grpc.health.v1 needs no
//     rule; reflection does.
//   - A token is taken for what it says only after its signature was checked with
//     a key of its issuer and an algorithm that the issuer may use. Algorithms are
//     asymmetric; "none" and those with a shared secret are never among them.
//   - Keys that an issuer's source held last stay in use while the source fails.
//     A key that is gone from the source is of no use once the source was read
//     again, neither is what was remembered of its tokens.
//   - What callers send is bounded before it is looked at ([MaxToken]), and so is
//     what is remembered of it.
//   - A caller that is refused learns a reason and the rule's name. The details are
//     in the text of the error, which the log shows. Neither holds any part of a
//     token but what it says about itself, in quotes and shortened.
//   - Who makes the call is decided when it begins. A stream outlives its token.
//
// [Auth.Run] keeps the keys up to date, in the caller's goroutine; importing the
// package, and [New], start nothing.
//
// The package has more names than others because what may stand in a configuration
// (issuers, rules) and what a caller may be told (reasons) are spelled out.
package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"plinth.internal/middleware"
)

// Config is what an [Auth] is built from.
type Config struct {
	// Policy says who may call what.
	Policy Policy
	// Issuers are those whose tokens are taken; none means that no token is.
	Issuers []Issuer
	// OnRefusal is told of each call that is refused, in the goroutine of that
	// call, which waits for it; nil drops it.
	OnRefusal func(*middleware.Call, *RefusalError)
	// Events is told of the keys, concurrently and with no lock held; nil drops
	// it.
	Events func(Event)
	// Transport makes the requests for keys; nil means one of its own that
	// knows the roots of the system and the proxies of the environment.
	Transport http.RoundTripper
}

// Auth checks calls. Its methods may be called concurrently.
type Auth struct {
	// Set at construction, never changed.
	cfg     Config
	issuers map[string]*keeper // by the claim iss
	sources map[string]bool    // what stands before the colon in Rule.Allow

	algorithms []jose.SignatureAlgorithm // of all issuers
	certs      *cache[certKey, *Identity]
	tokens     *cache[tokenKey, verified]

	policy atomic.Pointer[policy]
}

// How much is remembered of certificates and of tokens that were found to be good.
// Checking a signature costs more than the rest of a call.
const (
	rememberedCerts  = 1024
	rememberedTokens = 2048
)

// New builds an Auth. It errs on a policy or an issuer that does not hold, and on
// a file of keys that cannot be used.
func New(cfg Config) (*Auth, error) {
	if cfg.OnRefusal == nil {
		cfg.OnRefusal = func(*middleware.Call, *RefusalError) {}
	}
	if cfg.Events == nil {
		cfg.Events = func(Event) {}
	}
	a := &Auth{
		cfg: cfg, issuers: map[string]*keeper{}, sources: map[string]bool{KindMTLS: true}, algorithms: joseAlgorithms(),
		certs: newCache[certKey, *Identity](rememberedCerts), tokens: newCache[tokenKey, verified](rememberedTokens),
	}
	if err := ValidateIssuers(cfg.Issuers); err != nil {
		return nil, fmt.Errorf("build auth: %w", err)
	}
	fetcher := newFetcher(cfg.Transport)
	for _, i := range cfg.Issuers {
		k := newKeeper(i, fetcher, cfg.Events)
		if err := k.open(); err != nil {
			return nil, fmt.Errorf("build auth: issuer %s: %w", i.Name, err)
		}
		a.issuers[i.Issuer] = k
		a.sources[i.Name] = true
	}
	if err := a.SetPolicy(cfg.Policy); err != nil {
		return nil, fmt.Errorf("build auth: %w", err)
	}
	return a, nil
}

// SetPolicy puts another policy in the place of the one in use, for the calls that
// begin from then on. One that does not hold is an error and changes nothing.
func (a *Auth) SetPolicy(p Policy) error {
	compiled, err := p.compile(a.sources)
	if err != nil {
		return err
	}
	a.policy.Store(compiled)
	return nil
}

// Run keeps the keys of all issuers up to date until ctx ends. While it does not
// run, keys that have a URL are not there.
func (a *Auth) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, k := range a.issuers {
		wg.Go(func() { k.run(ctx) })
	}
	wg.Wait()
}

// CheckKeys returns why the keys of an issuer are not those that its source holds
// now, or are not there at all; nil while all is well. It waits for the first
// reading only, and makes none.
func (a *Auth) CheckKeys(ctx context.Context) error {
	var errs []error
	for _, i := range a.cfg.Issuers {
		if err := a.issuers[i.Issuer].check(ctx); err != nil {
			errs = append(errs, fmt.Errorf("issuer %s: %w", i.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Middleware checks the calls of a server. It belongs inside of logging and
// metering, so that these see who is refused, and around whatever asks for
// [From] or [middleware.Caller].
func (a *Auth) Middleware() middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			if isHealth(call) {
				return next(ctx, call)
			}
			id, refusal := a.decide(ctx, call)
			if refusal != nil {
				refusal.challenge(call)
				a.cfg.OnRefusal(call, refusal)
				return refusal
			}
			if id != nil {
				call.Caller = id.name
				ctx = middleware.WithCaller(with(ctx, id), id.name)
			}
			return next(ctx, call)
		}
	}
}

// isHealth tells the calls that must work for whoever looks after the process.
func isHealth(call *middleware.Call) bool {
	return call.Service == "grpc.health.v1.Health" && !call.Kind.HTTP()
}

// decide returns who makes the call, nil for somebody unknown who may, or why it
// is refused.
func (a *Auth) decide(ctx context.Context, call *middleware.Call) (*Identity, *RefusalError) {
	method := call.FullMethod()
	rule := a.policy.Load().find(method)
	if rule == nil {
		return nil, refuse(NoRule, "", "no rule is for %s", quote(method))
	}
	now := time.Now()
	byCert, certRefusal := a.byCertificate(call)
	byToken, tokenRefusal := a.byToken(ctx, call, now)
	shown := byToken
	if shown == nil {
		shown = byCert
	}
	if rule.anonymous {
		return shown, nil
	}
	if shown != nil {
		call.Caller = shown.name // the log shows who was refused, too
	}
	switch {
	case tokenRefusal != nil:
		return nil, tokenRefusal.by(rule)
	case shown == nil && certRefusal != nil:
		return nil, certRefusal.by(rule)
	case shown == nil:
		return nil, refuse(NoCredentials, rule.name, "")
	}
	refusal := (*RefusalError)(nil)
	for _, id := range []*Identity{byToken, byCert} {
		if id == nil {
			continue
		}
		r := rule.judge(id)
		if r == nil {
			return id, nil
		}
		if refusal == nil || r.Reason == Scope {
			refusal = r // who is let in for his name is told what he lacks
		}
	}
	return nil, refusal
}
