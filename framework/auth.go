package framework

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"plinth.internal/client"
	"plinth.internal/health"
	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
)

// keysCheck is the name of the issuers' keys among the checks of /health, and of
// the goroutine that keeps them up to date.
const keysCheck = "auth keys"

// WithAuth declares who may call which method, and turns auth on, unless
// server.auth.mode is off. Rules of server.auth.policy come before these, and
// replace those of the same name. Given several times the rules are added.
func WithAuth(p auth.Policy) Option {
	return optionFunc(func(o *options) {
		if o.auth == nil {
			o.auth = &auth.Policy{}
		}
		o.auth.Rules = append(o.auth.Rules, p.Rules...)
	})
}

// buildAuth makes the part that checks callers, and leaves it nil where auth is
// off: then it is not in the chain.
func (a *App) buildAuth() error {
	s := &a.settings.Server.Auth
	if !s.on() {
		if a.opts.auth != nil {
			a.emit(AuthOff{})
		}
		return nil
	}
	var err error
	a.auth, err = auth.New(auth.Config{
		Policy: s.policy(s.code.policy), Issuers: s.issuers(),
		OnRefusal: func(_ *middleware.Call, r *auth.RefusalError) { a.metrics.CountAuthRefusal(string(r.Reason)) },
		Events:    func(e auth.Event) { a.emit(AuthEvent{e}) },
	})
	if err != nil {
		return &configError{fmt.Errorf("server.auth: %w", err)}
	}
	if len(s.Issuers) == 0 {
		return nil
	}
	a.group.add(keysCheck, func(ctx context.Context) error {
		a.auth.Run(ctx)
		return nil
	})
	return a.health.Add(keysCheck, a.auth.CheckKeys, health.NotCritical(), health.FailureThreshold(1))
}

// authInCode is what the code says about who may call.
func (o *options) authInCode() *authInCode {
	if o.auth == nil {
		return &authInCode{}
	}
	return &authInCode{declared: true, policy: *o.auth}
}

// callers is the part of the chain that checks who calls.
func (a *App) callers() middleware.Middleware {
	if a.auth == nil {
		return nil
	}
	return a.auth.Middleware()
}

// applyAuth brings the rules into effect as they are now. Issuers need a restart.
func (a *App) applyAuth(current *authSettings) {
	if a.auth != nil {
		_ = a.auth.SetPolicy(current.policy(current.code.policy)) // validated with the rest
	}
}

// countAuth keeps the metrics that come from the keys of issuers.
func (a *App) countAuth(e auth.Event) {
	switch e := e.(type) {
	case auth.KeysChanged:
		a.metrics.CountAuthKeys(e.Issuer, reloadApplied)
	case auth.KeysFailed:
		a.metrics.CountAuthKeys(e.Issuer, reloadRejected)
	}
}

func describeAuth(e auth.Event) string {
	switch e := e.(type) {
	case auth.KeysChanged:
		return "keys of an issuer of tokens are in use"
	case auth.KeysFailed:
		if e.Kept == 0 {
			return "keys of an issuer of tokens cannot be had, its tokens are refused"
		}
		return "keys of an issuer of tokens cannot be had, the last good ones stay in use"
	}
	return ""
}

func levelOfAuth(e auth.Event) zapcore.Level {
	if _, ok := e.(auth.KeysFailed); ok {
		return zapcore.WarnLevel
	}
	return zapcore.InfoLevel
}

func fieldsOfAuth(e auth.Event) []zap.Field {
	switch e := e.(type) {
	case auth.KeysChanged:
		return []zap.Field{zap.String("issuer", e.Issuer), zap.String("place", e.Place), zap.Int("keys", e.Keys)}
	case auth.KeysFailed:
		return []zap.Field{zap.String("issuer", e.Issuer), zap.Int("kept", e.Kept), zap.Error(e.Err)}
	}
	return nil
}

// checkTokens reads the files with tokens that the section clients names, so that
// a start fails rather than its first call. Once the service runs, files that turn
// bad change nothing, and a change that names bad ones is not taken; see checkFiles.
func (t *clientTable) checkTokens() error {
	var errs []error
	for _, k := range slices.SortedFunc(maps.Keys(t.resolved), clientKey.compare) {
		if s := t.resolved[k]; k.method == "" && s.TokenFile != "" {
			if _, err := client.ReadToken(s.TokenFile); err != nil {
				errs = append(errs, &configError{fmt.Errorf("%v.token_file: %w", k, err)})
			}
		}
	}
	return errors.Join(errs...)
}
