package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc"

	"plinth.internal/client"
	"plinth.internal/client/breaker"
	"plinth.internal/framework"
	"plinth.internal/health"
	"plinth.internal/log"
	"plinth.internal/metrics"
	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
	"plinth.internal/middleware/limit"
	"plinth.internal/middleware/load"
	"plinth.internal/middleware/logging"
	"plinth.internal/middleware/metering"
	"plinth.internal/middleware/recovery"
	"plinth.internal/middleware/tracing"
	"plinth.internal/registry/static"
	"plinth.internal/server"
	"plinth.internal/trace"
)

const service = "echo"

// openLog is where Plinth logs to: the null device, which takes a system call for
// each line as any other file does. Standard output is the null device as well,
// but not by name, and so would be taken for a terminal.
func openLog() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_WRONLY, 0) }

// boot runs an app with the framework's defaults until the process ends, and
// returns once it serves. Traces are on and not sampled.
func boot(ctx context.Context, name string, setup framework.Setup, opts ...framework.Option) (*framework.App, error) {
	lines, err := openLog()
	if err != nil {
		return nil, err
	}
	app, err := framework.New(name, setup, append([]framework.Option{
		framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(lines),
		framework.WithSetting("server.admin.addr", "127.0.0.1:0"), framework.WithSetting("telemetry.trace.sample", "0"),
		framework.WithHeapFloor(framework.DefaultHeapFloor), // as framework.Run does
	}, opts...)...)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	select {
	case <-app.Ready():
		return app, nil
	case err := <-ended:
		return nil, errors.Join(fmt.Errorf("run %s: it ended before it was ready", name), err)
	}
}

func serveFramework(ctx context.Context) (string, error) {
	app, err := boot(ctx, service, func(_ context.Context, s *framework.Service) error {
		register(s)
		return nil
	}, framework.WithSetting("server.grpc.addr", "127.0.0.1:0"))
	if err != nil {
		return "", err
	}
	return app.Endpoints()[server.GRPC], nil
}

func dialFramework(ctx context.Context, addrs []string) (grpc.ClientConnInterface, error) {
	reg, err := static.Open(map[string][]string{service: addrs})
	if err != nil {
		return nil, err
	}
	var conn *grpc.ClientConn
	_, err = boot(ctx, "caller", func(_ context.Context, s *framework.Service) (err error) {
		conn, err = s.Client(service)
		return err
	}, framework.WithRegistry(reg), framework.WithSetting("server.grpc.addr", ""))
	return conn, err
}

// feature is a part of Plinth that can be left out.
type feature struct{ name, about string }

// allFeatures stands for every feature.
const allFeatures = "*"

// features are those that can be left out. The retry loop itself, which picks and
// counts, and the balancer cannot: without them there is no connection by name.
func features() []feature {
	return []feature{
		{"logging", "no access log, on either side"},
		{"metrics", "no metrics, on either side"},
		{"tracing", "no trace IDs, on either side"},
		{"deadline", "no deadline, on either side"},
		{"recovery", "the server dies of a panic"},
		{"load", "no load report, no bounce"},
		{"limit", "no limit of the calls in flight"},
		{"breaker", "no breaker"},
		{"retry", "one attempt"},
		{"ejection", "nobody is ejected"},
		{"choice", "instances are drawn at random instead of by their cost"},
		{"workers", "a new goroutine for each call in the server"},
		{"floor", "the heap is as small as it is (`framework.WithHeapFloor`)"},
	}
}

// parts is a contender made of Plinth's packages, without one feature.
func parts(name, about, without string) contender {
	p := partial{without}
	return contender{name: name, about: about, servers: 1, without: without, serve: p.serve, dial: p.dial}
}

// partial is the framework's chain without a feature. That it is the framework's
// chain otherwise is held by a test: "all parts" must allocate what "plinth" does.
type partial struct{ without string }

func (p partial) has(feature string) bool { return p.without != feature && p.without != allFeatures }

// ballast is what framework.WithHeapFloor reserves. A process is one contender.
var ballast []byte //nolint:unused // it is there to be there

// telemetry makes what both sides use.
func (p partial) telemetry() (*log.Log, *trace.Tracer, *metrics.Metrics, error) {
	if p.has("floor") {
		ballast = make([]byte, framework.DefaultHeapFloor)
	}
	lines, err := openLog()
	if err != nil {
		return nil, nil, nil, err
	}
	l, err := log.New(log.Config{Output: lines, IDs: trace.IDs})
	if err != nil {
		return nil, nil, nil, err
	}
	t, err := trace.New(trace.Config{Service: service})
	return l, t, metrics.New(), err
}

func (p partial) serve(ctx context.Context) (string, error) {
	l, t, m, err := p.telemetry()
	if err != nil {
		return "", err
	}
	var chain []middleware.Middleware
	add := func(feature string, mw middleware.Middleware) {
		if p.has(feature) {
			chain = append(chain, mw)
		}
	}
	add("load", load.New().Middleware())
	add("tracing", tracing.Server(t))
	add("logging", logging.Server(l))
	add("metrics", metering.Server(m.Server, service))
	add("recovery", recovery.New(nil))
	add("deadline", deadline.Server())
	add("limit", limit.New().Middleware())
	var opts []grpc.ServerOption
	if !p.has("workers") {
		opts = append(opts, grpc.NumStreamWorkers(0))
	}
	h := health.New()
	s, err := server.New(server.Config{
		Service: service, Addrs: map[string]string{server.GRPC: "127.0.0.1:0"}, Middleware: chain, Health: h, GRPCOptions: opts,
	})
	if err != nil {
		return "", err
	}
	register(s)
	if err := s.Listen(ctx); err != nil {
		return "", err
	}
	s.Serve(func(error) {}) // a listener that breaks ends the calls, which is seen
	h.SetPhase(health.Serving)
	return s.Endpoints()[server.GRPC], nil
}

func (p partial) dial(_ context.Context, addrs []string) (grpc.ClientConnInterface, error) {
	l, t, m, err := p.telemetry()
	if err != nil {
		return nil, err
	}
	reg, err := static.Open(map[string][]string{service: addrs})
	if err != nil {
		return nil, err
	}
	var outer []middleware.Middleware
	if p.has("tracing") {
		outer = append(outer, tracing.Client(t))
	}
	if p.has("logging") {
		outer = append(outer, logging.Client(l))
	}
	if p.has("metrics") {
		outer = append(outer, metering.Client(m.Client))
	}
	set := client.DefaultSettings()
	if !p.has("deadline") {
		set.Timeout = -1
	}
	if !p.has("breaker") {
		set.Breaker.Policy = breaker.PolicyOff
	}
	if !p.has("retry") {
		set.Retry.MaxAttempts = 1
	}
	if !p.has("choice") {
		set.Balancer = "random"
	}
	set.Ejection.Off = !p.has("ejection")
	c, err := client.New(reg, client.WithMiddleware(outer...), client.WithUserAgent(tracing.UserAgent), client.WithCaller("caller"),
		client.WithSettings(func(string, string) client.Settings { return set }))
	if err != nil {
		return nil, err
	}
	return c.Conn(service)
}
