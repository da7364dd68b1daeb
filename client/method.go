package client

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"plinth.internal/client/breaker"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
)

// methodState is what is known of one method of a service.
type methodState struct {
	own   fuse
	hedge retry.Hedge
}

// methodTable keeps the state of each method. It is read without a lock and
// grows once a method, up to a bound that only a proxy for foreign methods
// reaches; the methods beyond it share one state.
type methodTable struct {
	known atomic.Pointer[map[methodKey]*methodState]
	mu    sync.Mutex // serialises writers
}

type methodKey struct{ service, method string }

const maxMethods = 1000

func (t *methodTable) get(call *middleware.Call) *methodState {
	key := methodKey{call.Service, call.Method}
	if known := t.known.Load(); known != nil {
		if m := (*known)[key]; m != nil {
			return m
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next := map[methodKey]*methodState{}
	if known := t.known.Load(); known != nil {
		if len(*known) >= maxMethods {
			key = methodKey{}
		}
		if m := (*known)[key]; m != nil { // another goroutine was faster
			return m
		}
		maps.Copy(next, *known)
	}
	m := &methodState{}
	next[key] = m
	t.known.Store(&next)
	return m
}

// fuse holds a breaker, and replaces it when its settings change: what the old
// one has counted was counted for other rules.
type fuse struct {
	current atomic.Pointer[fitted]
	mu      sync.Mutex // serialises writers
}

type fitted struct {
	config  breaker.Config
	breaker breaker.Breaker
}

// breaker returns the breaker for the settings.
func (f *fuse) breaker(want breaker.Config) breaker.Breaker {
	if have := f.current.Load(); have != nil && have.config == want {
		return have.breaker
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if have := f.current.Load(); have != nil && have.config == want {
		return have.breaker
	}
	next := &fitted{config: want, breaker: breaker.New(want, time.Now(), nil)}
	f.current.Store(next)
	return next.breaker
}
