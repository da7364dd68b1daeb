package framework

import (
	"cmp"
	"errors"
	"net"
	"strconv"
	"time"

	"plinth.internal/config"
	"plinth.internal/log"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
	"plinth.internal/server"
	"plinth.internal/trace"
)

// Defaults of a drain.
const (
	DefaultDrainDelay   = 2 * time.Second
	DefaultDrainTimeout = 30 * time.Second
)

// settings are the framework's own keys. A service's keys stand beside them and
// are bound by the service.
type settings struct {
	Service   serviceSettings           `yaml:"service"`
	Server    serverSettings            `yaml:"server"`
	Registry  registrySettings          `yaml:"registry"`
	Clients   map[string]clientSettings `yaml:"clients"`
	Telemetry telemetrySettings         `yaml:"telemetry"`
}

type serviceSettings struct {
	Version string `yaml:"version" doc:"version that is registered and shown; the build's own unless set"`
	Zone    string `yaml:"zone" doc:"zone that is registered"`
}

type serverSettings struct {
	GRPC      grpcSettings  `yaml:"grpc"`
	HTTP      httpSettings  `yaml:"http"`
	Admin     adminSettings `yaml:"admin"`
	Advertise string        `yaml:"advertise" doc:"host that others reach this instance at; detected unless set"`
	Drain     drainSettings `yaml:"drain"`
}

type grpcSettings struct {
	Addr       string `yaml:"addr" doc:"address for gRPC, empty for none"`
	Reflection bool   `yaml:"reflection" doc:"offer gRPC reflection on the port for calls, too; the admin port always does"`
}

type httpSettings struct {
	Addr string `yaml:"addr" doc:"address for HTTP, empty for none"`
}

type adminSettings struct {
	Addr  string `yaml:"addr" doc:"address for /health, /metrics and /debug/, empty for none"`
	Debug string `yaml:"debug" doc:"who may read /debug/: off, loopback or all"`
}

type drainSettings struct {
	Delay   time.Duration `yaml:"delay" doc:"how long calls are still accepted after SIGTERM; ends early when none come"`
	Timeout time.Duration `yaml:"timeout" doc:"how long calls that have begun may take after that"`
}

type registrySettings struct {
	Kind      string              `yaml:"kind" doc:"etcd or static; etcd where endpoints are given, else static"`
	Endpoints []string            `yaml:"endpoints" doc:"addresses of the registry, separated by commas"`
	Namespace string              `yaml:"namespace" doc:"prefix of all keys"`
	TTL       time.Duration       `yaml:"ttl" doc:"how long an entry outlives its process, whole seconds"`
	Required  bool                `yaml:"required" doc:"be ready only once registered"`
	Username  string              `yaml:"username" doc:"user for the registry"`
	Password  config.Secret       `yaml:"password" doc:"password for the registry"`
	Static    map[string][]string `yaml:"static" doc:"addresses of a service, for the static registry"`
}

type telemetrySettings struct {
	Log   logSettings   `yaml:"log"`
	Trace traceSettings `yaml:"trace"`
}

type logSettings struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error"`
	Format string `yaml:"format" doc:"json, console or auto (console on a terminal)"`
}

type traceSettings struct {
	Endpoint string  `yaml:"endpoint" doc:"where spans go: http(s)://host:4318 or grpc(s)://host:4317; empty for nowhere"`
	Sample   float64 `yaml:"sample" doc:"share of new traces that are sampled, 0 to 1"`
}

func defaultSettings() settings {
	return settings{
		Service: serviceSettings{Version: buildVersion()},
		Server: serverSettings{
			GRPC:  grpcSettings{Addr: ":9000"},
			Admin: adminSettings{Addr: ":9100", Debug: server.DebugLoopback},
			Drain: drainSettings{Delay: DefaultDrainDelay, Timeout: DefaultDrainTimeout},
		},
		Registry:  registrySettings{Namespace: etcd.DefaultNamespace, TTL: registry.DefaultTTL},
		Telemetry: telemetrySettings{Log: logSettings{Level: "info", Format: log.FormatAuto}, Trace: traceSettings{Sample: trace.DefaultSample}},
	}
}

// The kinds of registry.
const (
	kindEtcd   = "etcd"
	kindStatic = "static"
)

// kind is the registry in use.
func (r *registrySettings) kind() string {
	if r.Kind == "" && len(r.Endpoints) > 0 {
		return kindEtcd
	}
	return cmp.Or(r.Kind, kindStatic)
}

// Validate checks what the types cannot.
func (s *serverSettings) Validate() error {
	var errs []error
	for key, addr := range map[string]string{"grpc.addr": s.GRPC.Addr, "http.addr": s.HTTP.Addr, "admin.addr": s.Admin.Addr} {
		if addr != "" && !isAddr(addr) {
			errs = append(errs, config.Invalid(key, "is not an address to listen on, want host:port or :port, such as :9000"))
		}
	}
	if !oneOf(s.Admin.Debug, server.DebugOff, server.DebugLoopback, server.DebugAll) {
		errs = append(errs, config.Invalid("admin.debug", "is none of off, loopback, all"))
	}
	if s.Drain.Delay < 0 {
		errs = append(errs, config.Invalid("drain.delay", "is below zero"))
	}
	if s.Drain.Timeout <= 0 {
		errs = append(errs, config.Invalid("drain.timeout", "is not above zero"))
	}
	return errors.Join(errs...)
}

// Validate checks what the types cannot.
func (r *registrySettings) Validate() error {
	var errs []error
	if !oneOf(r.kind(), kindEtcd, kindStatic) {
		errs = append(errs, config.Invalid("kind", "is none of etcd, static"))
	}
	if r.kind() == kindEtcd && len(r.Endpoints) == 0 {
		errs = append(errs, config.Invalid("endpoints", "is empty, but the registry is etcd; give its addresses, such as 127.0.0.1:2379"))
	}
	if r.kind() == kindStatic && len(r.Endpoints) > 0 {
		errs = append(errs, config.Invalid("endpoints", "is of no use to a static registry; set registry.kind to etcd or leave it out"))
	}
	if r.kind() != kindStatic && len(r.Static) > 0 {
		errs = append(errs, config.Invalid("kind", "does not read registry.static; leave registry.static out or set the kind to static"))
	}
	if r.TTL < registry.MinTTL || r.TTL%time.Second != 0 {
		errs = append(errs, config.Invalid("ttl", "is not one or more whole seconds"))
	}
	return errors.Join(errs...)
}

// Validate checks what the types cannot.
func (t *telemetrySettings) Validate() error {
	var errs []error
	if !oneOf(t.Log.Level, "debug", "info", "warn", "error") {
		errs = append(errs, config.Invalid("log.level", "is none of debug, info, warn, error"))
	}
	if !oneOf(t.Log.Format, log.FormatJSON, log.FormatConsole, log.FormatAuto) {
		errs = append(errs, config.Invalid("log.format", "is none of json, console, auto"))
	}
	if !(t.Trace.Sample >= 0 && t.Trace.Sample <= 1) {
		errs = append(errs, config.Invalid("trace.sample", "is not a share between 0 and 1"))
	}
	return errors.Join(errs...)
}

func oneOf(s string, allowed ...string) bool {
	for _, a := range allowed {
		if s == a {
			return true
		}
	}
	return false
}

// isAddr reports host:port with a port number; the host may be empty.
func isAddr(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}
