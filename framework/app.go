// Package framework composes the parts of Plinth into a process: configuration,
// logs, metrics, traces, health, the registry, the server and the client, in an
// order that is safe to start and to stop in.
//
// [Run] is all that a service's main needs; [New] and [App.Run] are the same
// for tests and for programs that embed a service. Everything is built from
// exported parts of the other packages, so that a program can use those by
// themselves as well.
//
// # Start
//
// Configuration, telemetry, the service's setup, the central configuration,
// listeners bound, background components started, critical checks green once, gRPC health SERVING,
// announced. A registry that is down delays the announcement, not the service,
// unless registry.required is set.
//
// # Stop
//
// At the end of Run's context: gRPC health NOT_SERVING and the instance marked
// draining; calls are still accepted for server.drain.delay, or until none has
// come for half of that; the instance is withdrawn; calls that have begun may
// finish within server.drain.timeout; background goroutines, OnStop functions
// in reverse, clients; telemetry is flushed last. Jobs end beside that, from the
// beginning, so that another instance goes on with them. The error of one step
// never skips a later one; all are joined. A step that takes too long is left
// behind, and what the process does then is kept in files: a dump of all
// goroutines, and a trace of the drain.
//
// A stop that comes during the start ends it after the step that runs: the instance
// does not become ready and is not announced any more.
//
// Guarantees: no process-wide state is read or set but what options name (the
// environment and the working directory's plinth.yaml, unless told otherwise);
// two apps in one process do not see one another; New and App.Run touch neither
// signals nor the exit code.
package framework

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"plinth.internal/client"
	"plinth.internal/config"
	"plinth.internal/health"
	"plinth.internal/internal/errtext"
	"plinth.internal/log"
	"plinth.internal/metrics"
	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
	"plinth.internal/middleware/deadline"
	"plinth.internal/middleware/fault"
	"plinth.internal/middleware/limit"
	"plinth.internal/middleware/load"
	"plinth.internal/middleware/logging"
	"plinth.internal/middleware/metering"
	"plinth.internal/middleware/recovery"
	"plinth.internal/middleware/tracing"
	"plinth.internal/registry"
	"plinth.internal/server"
	"plinth.internal/trace"
)

// Setup builds a service out of what the framework offers. Its context ends
// when the app begins to stop. An error ends the start.
type Setup func(ctx context.Context, s *Service) error

// App is one service in a process.
type App struct {
	name     string
	setup    Setup
	opts     options
	cfg      *config.Config
	settings settings                     // as at the start; what is hot may have changed since
	current  func() settings              // as they are now
	clients  *atomic.Pointer[clientTable] // the section clients as it is now
	started  time.Time

	log     *log.Log
	metrics *metrics.Metrics
	tracer  *trace.Tracer
	health  *health.Health
	server  *server.Server
	client  *client.Client
	auth    *auth.Auth      // nil where callers are not checked
	faults  *fault.Injector // nil where faults are not allowed
	limiter *limit.Limiter
	dropped droppedCalls

	unserved atomic.Pointer[[]MethodUnserved]  // in the configuration as it is now
	idleKeys atomic.Pointer[map[string]string] // those told of last, with the reason; nil before the listeners are bound
	latest   atomic.Pointer[serverSettings]    // of the last change, nil before it
	fault    atomic.Pointer[faultSettings]     // those of the last change, nil before it

	registry    *registry.Registry
	ownRegistry bool           // opened here, closed here
	backend     io.Closer      // the connection of a registry of its own, nil for none
	openFeed    func() ownFeed // opens the central documents beside the registry, nil where it has none
	feed        ownFeed        // those documents once they are open
	snapshots   string         // the directory for what is kept on disk, "" for none; set with the registry

	ready    chan struct{}
	group    *group // the goroutines of Service.Go
	jobs     *jobs
	timeline *timeline
	late     *lateness
	box      *blackBox

	newElector func() (registry.Elector, io.Closer) // on a registry of its own, nil where it holds no elections

	mu       sync.Mutex
	entering chan struct{} // nil until the registry is told of the instance, closed once that was tried
	instance registry.Instance
	running  bool
	stops    []stopFunc
	errs     []error // of registrations; those of setup are reported after it, later ones at the stop
}

type stopFunc struct {
	name string
	fn   func(context.Context) error
}

// New builds an app without starting anything. It errs on a bad name, on a
// configuration that does not hold, and on parts that cannot be built.
func New(name string, setup Setup, opts ...Option) (*App, error) {
	o := options{configFile: DefaultConfigFile, settings: map[string]string{}, listeners: map[string]net.Listener{}}
	for _, opt := range opts {
		opt.apply(&o)
	}
	if o.environ == nil {
		o.environ = os.Environ()
	}
	if setup == nil {
		return nil, fmt.Errorf("build %q: the setup function is nil", name)
	}
	for _, l := range slices.Sorted(maps.Keys(o.listeners)) {
		if !oneOf(l, server.GRPC, server.HTTP, server.Admin) {
			return nil, fmt.Errorf("build %q: WithListener: there is no listener %q; it is %s, %s or %s", name, l, server.GRPC, server.HTTP, server.Admin)
		}
	}
	phases := &timeline{}
	phases.next(phaseConfig)
	cfg, err := config.Load(config.WithFile(o.configFile, o.fileRequired), config.WithEnviron(o.environ), config.WithFlags(o.flags()))
	if err != nil {
		if o.fileRequired && errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; give --config a file that is there, or leave it out for %s, which need not be", err, DefaultConfigFile)
		}
		return nil, &configError{err}
	}
	defaults := defaultSettings()
	defaults.Server.Auth.code = o.authInCode()
	defaults.inUse = &atomic.Pointer[clientTable]{}
	watched, err := config.Watch(cfg, "", defaults)
	if err != nil {
		return nil, &configError{err}
	}
	s := watched.Get()
	a := &App{
		name: name, setup: setup, opts: o, cfg: cfg, settings: s, current: watched.Get, clients: defaults.inUse,
		started: time.Now(), ready: make(chan struct{}), timeline: phases,
	}
	a.jobs, a.late = &jobs{app: a}, &lateness{app: a}
	a.instance = registry.Instance{
		ID: name + "-" + strings.ToLower(rand.Text()[:10]), Service: name,
		Version: s.Service.Version, Zone: s.Service.Zone, Started: a.started, State: registry.Up,
		Endpoints: map[string]string{}, Metadata: registered(s.Service.Metadata),
	}
	if err := validService(name); err != nil {
		return nil, err
	}
	if o.unbuilt {
		return a, nil
	}
	err = a.build()
	phases.started(err)
	if err != nil {
		return nil, errors.Join(err, a.closeParts(context.Background()))
	}
	watched.OnChange(a.applySettings)
	if a.followsConfig() {
		a.group.add(configCheck, a.followConfig)
	}
	return a, nil
}

// configError marks errors that the user's configuration caused.
type configError struct{ error }

// Error hides passwords in the URLs that the error names, as text does.
func (e *configError) Error() string { return text(e.error) }

func (e *configError) Unwrap() error { return e.error }

// build makes the parts, those that others need first.
func (a *App) build() error {
	s := &a.settings
	var err error
	a.timeline.next(phaseTelemetry)
	a.log, err = log.New(log.Config{
		Level: s.Telemetry.Log.Level, Format: s.Telemetry.Log.Format, Output: a.opts.logOutput, IDs: trace.IDs,
		Fields: []zap.Field{zap.String("service", a.name), zap.String("instance", a.instance.ID)},
	})
	if err != nil {
		return err
	}
	a.metrics = metrics.New()
	a.metrics.BuildInfo.WithLabelValues(s.Service.Version, frameworkVersion(), goVersion()).Set(1)
	a.tracer, err = trace.New(trace.Config{
		Service: a.name, Version: s.Service.Version, Instance: a.instance.ID,
		Endpoint: s.Telemetry.Trace.Endpoint, Sample: s.Telemetry.Trace.Sample,
		OnError: func(err error) { a.emit(SpansLost{err}) },
	})
	if err != nil {
		return &configError{err}
	}
	a.clients.Store(newClientTable(s.Clients))
	if err := a.clients.Load().checkTLS(); err != nil {
		return err
	}
	if err := a.clients.Load().checkTokens(); err != nil {
		return err
	}
	a.timeline.next(phaseParts)
	a.group = newGroup(a.emit)
	a.box = &blackBox{dir: a.dumpDir(), instance: a.instance.ID}
	a.health = a.newHealth()
	if a.registry, a.ownRegistry, err = a.openRegistry(); err != nil {
		return err
	}
	if err := a.attachFeed(); err != nil {
		return err
	}
	a.client, err = client.New(a.registry, append([]client.Option{
		client.WithMiddleware(tracing.Client(a.tracer), logging.Client(a.log), metering.Client(a.metrics.Client)),
		client.WithSettings(func(service, method string) client.Settings { return a.clients.Load().settings(service, method) }),
		client.WithEvents(func(e client.Event) { a.emit(ClientEvent{e}) }),
		client.WithUserAgent(tracing.UserAgent),
		client.WithCaller(a.name),
		client.WithZone(s.Service.Zone),
		client.WithID(a.clientID()),
		client.WithTargets(func(service string) string { return targetOf(a.settings.Clients, service) }),
	}, a.opts.client...)...)
	if err != nil {
		return err
	}
	if a.faults, err = a.newFaults(); err != nil {
		return err
	}
	if err := a.buildAuth(); err != nil {
		return err
	}
	if a.limiter, err = a.newLimiter(); err != nil {
		return err
	}
	tracker := load.New(load.OnBounce(func(*middleware.Call) { a.metrics.CountServerBounce() }))
	chain := append([]middleware.Middleware{
		tracker.Middleware(),
		tracing.Server(a.tracer),
		logging.Server(a.log),
		metering.Server(a.metrics.Server, a.name),
		recovery.New(a.panicked),
		deadline.Server(a.countDropped()),
		a.callers(),
		a.limitMiddleware(),
		a.faultMiddleware(),
	}, a.opts.middleware...)
	a.server, err = server.New(server.Config{
		Service: a.name, Listeners: a.opts.listeners, Health: a.health, Middleware: chain, GRPCOptions: a.opts.serverGRPC,
		Addrs: map[string]string{
			server.GRPC: s.Server.GRPC.Addr, server.HTTP: s.Server.HTTP.Addr, server.Admin: s.Server.Admin.Addr,
		},
		HTTP:       s.Server.HTTP.server(),
		TLS:        s.Server.TLS.server(func(e server.TLSEvent) { a.emit(ServerEvent{e}) }),
		Reflection: s.Server.GRPC.Reflection, Debug: s.Server.Admin.Debug, Admin: a.adminPages(), About: aboutPages(), Status: a.statusLine,
		UnaryPayload: a.opts.unaryPayload(), StreamPayload: a.opts.streamPayload(), Wrap: a.faultListener(),
	})
	if err != nil && s.Server.TLS.server(nil) != nil {
		return &configError{err}
	}
	return err
}

func (a *App) panicked(_ context.Context, call *middleware.Call, value any, stack []byte) {
	a.emit(HandlerPanicked{Method: call.FullMethod(), TraceID: call.TraceID, Value: value, Stack: stack})
}

// Ready is closed once the app serves. It stays open where the start fails.
func (a *App) Ready() <-chan struct{} { return a.ready }

// Endpoints are the bound addresses by "grpc", "http" and "admin"; empty before
// the listeners are bound. A listener that is off is not in it.
func (a *App) Endpoints() map[string]string { return a.server.Endpoints() }

// Instance is what the app announces, or would announce.
func (a *App) Instance() registry.Instance {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.instance.Clone()
}

// Run starts the app, serves until ctx ends, and stops it; see the package
// documentation for the order. It returns nil after a stop in which nothing
// went wrong, else all errors, joined. It can be called once.
func (a *App) Run(ctx context.Context) error {
	a.mu.Lock()
	if a.running {
		a.mu.Unlock()
		return fmt.Errorf("run %s: Run was called before; build another App", a.name)
	}
	a.running = true
	a.mu.Unlock()
	begun := time.Now()
	defer raiseHeapFloor(a.opts.heapFloor)()

	// run ends when the app has to stop, for whatever reason. The work itself
	// goes on until the phases of the stop end it.
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	background, endBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer endBackground()
	var wg sync.WaitGroup

	jobs, endJobs := context.WithCancel(background)
	defer endJobs()

	// A start that fails is undone without a word: its error says it all. One that
	// was told to stop has no error.
	tell := func(Event) {}
	err := a.start(run, background, stop, &wg)
	a.timeline.started(err)
	switch {
	case err == nil:
		tell = a.emit
		a.tellStart()
		a.emit(Ready{Took: time.Since(begun)})
		close(a.ready) // what waits for it tells of itself after that
		a.jobs.start(jobs, stop)
		<-run.Done()
		if cause := context.Cause(run); ctx.Err() == nil {
			err = cause // a listener broke, or a goroutine that must not fail has
		}
	case ctx.Err() != nil:
		err = nil // told to stop while starting: nothing went wrong
		tell = a.emit
		a.tellStart()
	case run.Err() != nil:
		err = context.Cause(run) // that is why it did not get further
	}
	reason := "asked to stop"
	if err != nil {
		reason = err.Error()
	}
	stopping := time.Now()
	tell(Stopping{Reason: reason})
	ctx = context.WithoutCancel(ctx)
	err = errors.Join(err, a.stop(ctx, tell, endJobs, endBackground, wg.Wait), a.flush(ctx, tell))
	tell(Stopped{Took: time.Since(stopping), Err: err})
	_ = a.log.Logger().Sync() // standard error cannot be synced everywhere
	return err
}

// tellStart tells of the phases of the start that are over.
func (a *App) tellStart() {
	for _, e := range a.timeline.ended() {
		a.emit(e)
	}
}

// start goes through the phases up to the announcement.
func (a *App) start(run, background context.Context, stop context.CancelCauseFunc, wg *sync.WaitGroup) error {
	a.timeline.next(phaseSetup)
	s := &Service{app: a}
	if err := protect(func() error { return a.setup(run, s) }); err != nil {
		return fmt.Errorf("set up %s: %w", a.name, err)
	}
	if err := stopCame(run); err != nil { // setup need not look at its context
		return err
	}
	if err := errors.Join(a.noted(), a.health.Validate()); err != nil {
		return fmt.Errorf("set up %s: %w", a.name, err)
	}
	if err := a.cfg.Unused(); err != nil {
		return &configError{err}
	}
	a.settleConfig(run)
	if err := a.warmValidator(); err != nil {
		return fmt.Errorf("set up %s: %w", a.name, err)
	}
	if err := a.jobs.open(); err != nil {
		return fmt.Errorf("set up %s: %w", a.name, err)
	}
	a.timeline.next(phaseListen)
	if err := a.server.Listen(run); errors.Is(err, server.ErrNoHTTP) {
		return &configError{err}
	} else if err != nil {
		return err
	}
	endpoints := a.server.Endpoints()
	a.emit(Listening{Endpoints: endpoints})
	a.tellIdle()
	a.tellFaults()
	a.checkMethods(cmp.Or(a.latest.Load(), &a.settings.Server))
	if err := a.protect(endpoints); err != nil {
		return err
	}
	announce := a.announces()
	if announce {
		advertise, err := advertised(endpoints, a.settings.Server.Advertise, a.settings.Registry.Endpoints)
		if err != nil {
			return err
		}
		a.mu.Lock()
		a.instance.Endpoints = advertise
		a.mu.Unlock()
		if _, err := registry.Encode(a.Instance()); err != nil { // better now than once it serves
			return fmt.Errorf("announce %s: %w", a.name, err)
		}
	}
	a.server.Serve(func(err error) { stop(err) })
	a.timeline.next(phaseBackground)
	a.group.start(background, stop)
	wg.Go(func() { a.health.Run(background) })
	a.timeline.next(phaseChecks)
	if err := a.awaitChecks(run); err != nil {
		return err
	}
	if !announce {
		if a.registry.Kind() != kindDNS { // there the platform enters it
			a.emit(Unregistered{})
		}
		a.timeline.next(phaseServe)
		a.health.SetPhase(health.Serving)
		return nil
	}
	if a.settings.Registry.Required {
		return a.announceFirst(run)
	}
	a.timeline.next(phaseServe)
	a.health.SetPhase(health.Serving)
	wg.Go(func() { a.announce(run, background, stop) })
	return nil
}

// protect turns a panic of user code into an error, and so an error of its that
// panics in whoever looks at it.
func protect(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = newPanicError(p)
		}
	}()
	err = fn()
	if broken := errtext.Check(err); broken != nil {
		return &panicError{value: broken, stack: broken.Stack}
	}
	return err
}
