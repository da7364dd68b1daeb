// Package frameworktest boots services in memory for tests: the real framework
// with its real servers, interceptors and client stack, on a network and a
// registry that exist only in the test.
//
// One line boots a service:
//
//	app := frameworktest.Start(t, "orders", service.Setup)
//	orders := ordersv1.NewOrdersClient(app.Conn())
//
// Services that call one another are started in one [Env]. Everything is stopped
// at the end of the test, which fails if a service does not stop cleanly. Tests
// may run in parallel: nothing is shared between environments, no port is
// opened, and neither the environment nor a configuration file is read.
package frameworktest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"plinth.internal/client"
	"plinth.internal/framework"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

// Env is a network and a registry for the services of one test.
type Env struct {
	t       testing.TB
	network *network
	store   *memory.Store
	elector *memory.Elector
	caller  *client.Client
}

// New builds an empty environment. The options are those of the test's own client,
// which [Env.Conn], [Env.HTTP] and those of an [App] call with: timeouts, hedging and
// routes ([client.WithSettings]), middlewares, events. Those of the client of a
// service are options of [Env.Start], as [framework.WithClientOptions].
func New(t testing.TB, opts ...client.Option) *Env {
	t.Helper()
	e := &Env{t: t, network: newNetwork(), store: memory.NewStore(), elector: memory.NewElector()}
	reg := memory.Open(e.store)
	var err error
	e.caller, err = client.New(reg, append([]client.Option{client.WithDialer(e.network.dial)}, opts...)...)
	if err != nil {
		t.Fatalf("build the test's client: %v", err)
	}
	t.Cleanup(func() {
		if err := e.caller.Close(); err != nil {
			t.Errorf("close the test's client: %v", err)
		}
		if err := reg.Close(); err != nil {
			t.Errorf("close the test's registry: %v", err)
		}
	})
	return e
}

// Start boots one service in an environment of its own and returns when it is
// ready. Where the test's own client needs options, say New(t, options...).Start.
func Start(t testing.TB, name string, setup framework.Setup, opts ...framework.Option) *App {
	t.Helper()
	return New(t).Start(name, setup, opts...)
}

// Registry is the environment's registry, for instance to make it fail.
func (e *Env) Registry() *memory.Store { return e.store }

// Elections are those of the jobs of all services, by "service/job", for instance
// to take a leadership away.
func (e *Env) Elections() *memory.Elector { return e.elector }

// Conn is a connection to a service of the environment with the whole client
// stack; all callers share it.
func (e *Env) Conn(service string) *grpc.ClientConn {
	e.t.Helper()
	conn, err := e.caller.Conn(service)
	if err != nil {
		e.t.Fatalf("connect to %s: %v", service, err)
	}
	return conn
}

// HTTP is a client for the HTTP side of a service of the environment; URLs are
// http://name/path.
func (e *Env) HTTP(service string) *http.Client { return e.caller.HTTP(service) }

// Direct is a bare gRPC connection to one instance, past the client stack, as
// any other gRPC client would have it.
func (e *Env) Direct(a *App) *grpc.ClientConn {
	e.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+a.app.Endpoints()["grpc"],
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(e.network.dial))
	if err != nil {
		e.t.Fatalf("connect to %v: %v", a, err)
	}
	e.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Start boots a service and returns when it is ready and registered; the test
// fails at once if it does not get there. It listens for gRPC, HTTP and admin; a drain does not
// wait for quiet. Options come after these and win.
func (e *Env) Start(name string, setup framework.Setup, opts ...framework.Option) *App {
	e.t.Helper()
	reg := memory.Open(e.store)
	a := &App{env: e, name: name, ended: make(chan struct{})}
	defaults := []framework.Option{
		framework.WithConfigFile(""),
		framework.WithEnviron(nil),
		framework.WithSetting("server.drain.delay", "0s"),
		framework.WithSetting("server.drain.dump_dir", "off"), // a flight recorder would stop the clock of synctest
		framework.WithSetting("registry.required", "true"),
		framework.WithSetting("telemetry.log.format", "console"),
		framework.WithLogOutput(e.t.Output()),
		framework.WithRegistry(reg),
		framework.WithElector(e.elector),
		framework.WithClientOptions(client.WithDialer(e.network.dial)),
		// Of those that wait for calls many services would have more goroutines than
		// the race detector bears.
		framework.WithServerOptions(grpc.NumStreamWorkers(0)),
	}
	for i, l := range e.network.listen(name) {
		defaults = append(defaults, framework.WithListener(listenerNames[i], l))
	}
	var err error
	a.app, err = framework.New(name, setup, append(defaults, opts...)...)
	if err != nil {
		e.t.Fatalf("build %s: %v", name, err)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:gosec // the clean-up calls it
	a.stop = cancel
	go func() {
		a.err = a.app.Run(ctx)
		close(a.ended)
	}()
	e.t.Cleanup(func() {
		if err := a.end(); err != nil && !a.seen.Load() {
			e.t.Errorf("stop %s: %v", name, err)
		}
		if err := reg.Close(); err != nil {
			e.t.Errorf("close the registry of %s: %v", name, err)
		}
	})
	select {
	case <-a.app.Ready():
	case <-a.ended:
		if a.err != nil {
			e.t.Fatalf("start %s: %v", name, a.err)
		}
		e.t.Fatalf("start %s: it ended before it was ready", name)
	}
	return a
}

// App is a running service.
type App struct {
	env  *Env
	name string
	app  *framework.App
	stop context.CancelFunc

	ended chan struct{}
	err   error // of Run, written before ended is closed

	once sync.Once
	seen atomic.Bool // the test has called Stop
}

// Conn is a connection to the service with the whole client stack.
func (a *App) Conn() *grpc.ClientConn {
	a.env.t.Helper()
	return a.env.Conn(a.name)
}

// HTTP is a client for the service's HTTP side; URLs are http://name/path.
func (a *App) HTTP() *http.Client { return a.env.HTTP(a.name) }

// Instance is what the service announces.
func (a *App) Instance() registry.Instance { return a.app.Instance() }

// Admin is a client for the service's admin listener, with any host in the URL:
// http://admin/metrics.
func (a *App) Admin() *http.Client {
	addr := a.app.Endpoints()["admin"]
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return a.env.network.dial(ctx, addr)
		},
	}}
}

// Health is what /health answers, as read over the admin listener.
func (a *App) Health() framework.HealthDocument {
	a.env.t.Helper()
	req, err := http.NewRequestWithContext(a.env.t.Context(), http.MethodGet, "http://admin/health", http.NoBody)
	if err != nil {
		a.env.t.Fatalf("read /health of %s: %v", a.name, err)
	}
	resp, err := a.Admin().Do(req)
	if err != nil {
		a.env.t.Fatalf("read /health of %s: %v", a.name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	var doc framework.HealthDocument
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		a.env.t.Fatalf("read /health of %s: %v", a.name, err)
	}
	return doc
}

// Stop stops the service as SIGTERM does and returns what its Run returned. A
// test that calls it judges the error by itself.
func (a *App) Stop() error {
	a.seen.Store(true)
	return a.end()
}

func (a *App) end() error {
	a.once.Do(a.stop)
	<-a.ended
	return a.err
}

var listenerNames = [...]string{"grpc", "http", "admin"}

// String names the service and its addresses.
func (a *App) String() string { return fmt.Sprintf("%s %v", a.name, a.app.Endpoints()) }
