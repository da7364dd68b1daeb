package framework

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"plinth.internal/client"
	"plinth.internal/config"
	"plinth.internal/health"
	"plinth.internal/registry"
)

// Service is what a [Setup] builds a service with. What is registered wrongly
// ends the start with an error when setup has returned; what is registered wrongly
// after that is part of the error of [App.Run]. Its methods may be called from any
// goroutine; those that register something only during setup, but for
// [Service.Go] and [Service.OnStop].
type Service struct{ app *App }

// RegisterService makes Service a grpc.ServiceRegistrar, which the generated
// Register functions take.
func (s *Service) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.app.server.RegisterService(desc, impl)
}

// Handle serves HTTP requests that match a pattern of [http.ServeMux], such as
// "GET /items/{id}", on server.http.addr.
func (s *Service) Handle(pattern string, h http.Handler) { s.app.server.Handle(pattern, h) }

// Client returns a connection to another service, by its name in the registry,
// with the whole client stack behind it. It never waits, and a service or a
// registry that is down is no error: calls fail or wait until it is there. All
// callers share one connection, which the app closes.
func (s *Service) Client(name string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return s.app.client.Conn(name, opts...)
}

// HTTPClient returns a client for another service's HTTP side, with the same
// stack behind it as [Service.Client]. URLs are http://name/path. The options
// concern this HTTP client only.
func (s *Service) HTTPClient(name string, opts ...client.HTTPOption) *http.Client {
	return s.app.client.HTTP(name, opts...)
}

// NetRPC returns a client for another service's net/rpc side, with the same stack
// behind it as [Service.Client], for services that have not moved to gRPC yet.
// The options concern this client only.
func (s *Service) NetRPC(name string, opts ...client.NetRPCOption) (*client.NetRPC, error) {
	return s.app.client.NetRPC(name, opts...)
}

// Check adds a check to /health: critical, every 5 s with a timeout of 2 s, down
// with the second failure in a row, unless options say otherwise. The service is
// ready once every critical check has passed, and is not while one is down.
// Package health has checks that are ready to be used; for those of other
// services there is [Service.CheckDependency].
func (s *Service) Check(name string, fn func(context.Context) error, opts ...health.CheckOption) {
	if isReserved(name) {
		s.app.note(reserved(name))
		return
	}
	s.app.note(s.app.health.Add(name, fn, opts...))
}

// Heartbeat watches over a goroutine: the service is not ready while the
// returned function has not been called for longer than pause. The stack of the
// goroutine that has called it last is logged then, and is on
// /debug/heartbeats.
func (s *Service) Heartbeat(name string, pause time.Duration) (beat func()) {
	if isReserved(name) {
		s.app.note(reserved(name))
		return func() {}
	}
	beat, err := s.app.health.Heartbeat(name, pause)
	if err != nil {
		s.app.note(err)
		return func() {}
	}
	return beat
}

// Go runs fn in a goroutine of its own once the listeners are bound. Its context
// ends at the stop, after the last call has been answered; fn must return then.
// When it returns an error or panics before, it is reported and started again
// after a pause of up to 5 s, growing from 0.2 s; when it returns nil it is
// done; [Restart] and [MaxPause] change that. Dumps and profiles show it under
// its name, in the label plinth_goroutine, and /debug/lifecycle how it does.
// Metrics have a label with the name, so that names should be few.
func (s *Service) Go(name string, fn func(context.Context) error, opts ...GoOption) {
	if fn == nil {
		s.app.note(fmt.Errorf("start goroutine %q with Go: the function is nil", name))
		return
	}
	s.app.group.add(name, fn, opts...)
}

// OnStop has fn called at the stop, after the last call has been answered and
// the goroutines have ended, the functions in reverse order. Its context ends
// after 10 s; a function that stays longer is left behind.
func (s *Service) OnStop(name string, fn func(context.Context) error) {
	if fn == nil {
		s.app.note(fmt.Errorf("add step %q with OnStop: the function is nil", name))
		return
	}
	s.app.mu.Lock()
	defer s.app.mu.Unlock()
	s.app.stops = append(s.app.stops, stopFunc{name, fn})
}

// Name is the service's name.
func (s *Service) Name() string { return s.app.name }

// Instance is this instance as it is announced. Its endpoints are known once
// the listeners are bound, after setup.
func (s *Service) Instance() registry.Instance { return s.app.Instance() }

// Logger is the service's logger. In a handler, log.From(ctx) is the same logger
// with the call's trace.
func (s *Service) Logger() *zap.Logger { return s.app.log.Logger() }

// Metrics is where the service registers metrics of its own; /metrics shows
// them.
func (s *Service) Metrics() prometheus.Registerer { return s.app.metrics.Registerer() }

// Tracer starts spans of the service's own.
func (s *Service) Tracer() oteltrace.Tracer { return s.app.tracer.Provider().Tracer(s.app.name) }

// Config is the process' configuration. During setup, config.Bind reads the
// service's own section from it, as it is at the start; config.Watch reads it
// with the keys that are to follow the file while the service runs:
//
//	limits, err := config.Watch(s.Config(), "limits", Limits{PerUser: 10})
//	...
//	limits.Get().PerUser
func (s *Service) Config() *config.Config { return s.app.cfg }

// reserved is the error of a check that would hide one of the framework's own.
func reserved(name string) error {
	return fmt.Errorf("add health check %q: the framework has one of this name; choose another one", name)
}

// note keeps an error of a registration for the end of setup, or for the stop
// where that is over.
func (a *App) note(err error) {
	if err == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.errs = append(a.errs, err)
}

// noted are the errors of registrations since it was called last.
func (a *App) noted() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := errors.Join(a.errs...)
	a.errs = nil
	return err
}
