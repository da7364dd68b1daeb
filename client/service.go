package client

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
)

// service is what a client knows of one service. All its connections share it.
type service struct {
	// Set at construction, never changed.
	client   *Client
	name     string
	budget   *retry.Budget
	policies map[string]balancer.Policy
	grpc     *directory
	http     *directory

	methods  methodTable
	httpView httpView
	outage   atomic.Pointer[outage] // nil while the registry's own list is in use and current

	conn *grpc.ClientConn // the shared one, nil until asked for; guarded by client.mu
}

func newService(c *Client, name string) *service {
	s := &service{
		client: c,
		name:   name,
		budget: retry.NewBudget(time.Now()),
		policies: map[string]balancer.Policy{
			LeastRequest: &balancer.LeastRequest{},
			RoundRobin:   balancer.NewRoundRobin(),
		},
	}
	s.grpc, s.http = newDirectory(s, "grpc"), newDirectory(s, "http")
	s.httpView.known = make(chan struct{})
	return s
}

// chain is what a call runs through: the middlewares of the client, those of
// one connection, and the service's own.
func (s *service) chain(inner []middleware.Middleware) []middleware.Middleware {
	return slices.Concat(s.client.options.outer, inner, []middleware.Middleware{deadline.Client(s.timeout), s.attempts})
}

func (s *service) kind() string { return s.client.registry.Kind() }

func (s *service) settings(method string) Settings {
	return s.client.options.settings(s.name, method)
}

func (s *service) timeout(call *middleware.Call) time.Duration {
	return s.settings(call.Method).timeout(call.Kind.Stream())
}

// policy finds a balancer policy by name, the default for an unknown one.
func (s *service) policy(name string) balancer.Policy {
	if p := s.policies[name]; p != nil {
		return p
	}
	return s.policies[LeastRequest]
}

// methodTable keeps a breaker for each method. It is read without a lock and
// grows once a method, up to a bound that only a proxy for foreign methods
// reaches; the methods beyond it share one breaker.
type methodTable struct {
	known atomic.Pointer[map[methodKey]*breaker.Breaker]
	mu    sync.Mutex // serialises writers
}

type methodKey struct{ service, method string }

const maxMethods = 1000

func (t *methodTable) breaker(call *middleware.Call) *breaker.Breaker {
	key := methodKey{call.Service, call.Method}
	if known := t.known.Load(); known != nil {
		if b := (*known)[key]; b != nil {
			return b
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next := map[methodKey]*breaker.Breaker{}
	if known := t.known.Load(); known != nil {
		if len(*known) >= maxMethods {
			key = methodKey{}
		}
		if b := (*known)[key]; b != nil { // another goroutine was faster
			return b
		}
		maps.Copy(next, *known)
	}
	b := breaker.New(time.Now(), nil)
	next[key] = b
	t.known.Store(&next)
	return b
}
