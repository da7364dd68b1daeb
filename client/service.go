package client

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
)

// service is what a client knows of one service. All its connections share it.
type service struct {
	// Set at construction, never changed.
	client *Client
	name   string
	target string // of gRPC connections, "" for the instances that the registry knows
	budget *retry.Budget
	grpc   *directory
	http   *directory
	netrpc *directory

	methods    methodTable
	shared     fuse // of all methods that have no breaker of their own
	httpView   listView
	netrpcHome netRPCHome
	outage     atomic.Pointer[outage] // nil while the registry's own list is in use and current
	ejection   atomic.Pointer[outlier.Config]
	scope      atomic.Pointer[scope]      // never nil
	watchers   sync.Map                   // of *watcher
	protected  atomic.Pointer[protection] // the last one with TLS
	petioles   sync.Map                   // of *petiole: those of its connections, for Explain
	token      tokenFile
	exposed    atomic.Bool // it was told that tokens go without TLS

	conn *grpc.ClientConn // the shared one, nil until asked for; guarded by client.mu
}

func newService(c *Client, name string) *service {
	s := &service{
		client: c,
		name:   name,
		target: c.options.targets(name),
		budget: retry.NewBudget(time.Now()),
	}
	s.grpc, s.http = newDirectory(s, "grpc"), newDirectory(s, "http")
	s.httpView.known = make(chan struct{})
	s.netrpc = newDirectory(s, protocolNetRPC)
	scope := newScope(s.settings(""))
	s.scope.Store(&scope)
	s.setAwayFactor(scope.zoneFactor)
	s.netrpcHome = netRPCHome{
		service: s, listView: listView{known: make(chan struct{})},
		links: map[netRPCKey]*netRPCLink{}, open: map[*netRPCConn]struct{}{},
	}
	return s
}

// chain is what a call runs through: the middlewares of the client, those of
// one connection, and the service's own.
func (s *service) chain(inner []middleware.Middleware) []middleware.Middleware {
	return slices.Concat(s.client.options.outer, inner, []middleware.Middleware{s.introduce, deadline.Client(s.timeout), s.attempts})
}

// apart is the chain of calls that run in a goroutine of their own, HTTP calls and
// streams. No caller could recover a panic there, so that of a middleware becomes an
// error, which those around it see.
func (s *service) apart(inner []middleware.Middleware) []middleware.Middleware {
	chain := s.chain(inner)
	for i, m := range chain {
		if m != nil {
			chain[i] = s.survive(m)
		}
	}
	return chain
}

func (s *service) survive(m middleware.Middleware) middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		handler := m(next)
		return func(ctx context.Context, call *middleware.Call) (err error) {
			defer func() {
				if v := recover(); v != nil {
					p := &middleware.PanicError{Value: v, Stack: debug.Stack()}
					s.client.options.events(MiddlewarePanicked{Service: s.name, Method: call.Method, TraceID: call.TraceID, Value: p.Value, Stack: p.Stack})
					err = fmt.Errorf("call %q: %w", s.name, p)
				}
			}()
			return handler(ctx, call)
		}
	}
}

func (s *service) kind() string { return s.client.registry.Kind() }

func (s *service) settings(method string) Settings {
	return s.client.options.settings(s.name, method)
}

func (s *service) timeout(call *middleware.Call) time.Duration {
	return s.settings(call.Method).timeout(call.Kind.Stream())
}

// directory is where the instances for a call are.
func (s *service) directory(call *middleware.Call) *directory {
	switch {
	case call.Kind.HTTP():
		return s.http
	case call.Kind == middleware.ClientNetRPC:
		return s.netrpc
	default:
		return s.grpc
	}
}

// configure applies the settings that are the whole service's where they have
// changed.
func (s *service) configure() {
	set := s.settings("")
	s.place(set)
	want := set.Ejection
	if have := s.ejection.Load(); have == nil || *have != want {
		s.eject(want)
	}
}

func (s *service) eject(want outlier.Config) {
	s.ejection.Store(&want)
	s.grpc.detector.Configure(want)
	s.http.detector.Configure(want)
	s.netrpc.detector.Configure(want)
}

// breaker is the one that a call runs through.
func (s *service) breaker(m *methodState, set Settings) breaker.Breaker {
	if set.OwnBreaker {
		return m.own.breaker(set.Breaker)
	}
	return s.shared.breaker(set.Breaker)
}
