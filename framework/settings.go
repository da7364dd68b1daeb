package framework

import (
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
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
// are bound by the service. What is tagged hot takes effect while the app runs, in
// applySettings; the rest is read at the start.
type settings struct {
	Service   serviceSettings           `yaml:"service"`
	Server    serverSettings            `yaml:"server"`
	Registry  registrySettings          `yaml:"registry"`
	Config    configSettings            `yaml:"config"`
	Clients   map[string]clientSettings `hot:"true"         yaml:"clients"`
	Telemetry telemetrySettings         `yaml:"telemetry"`

	inUse *atomic.Pointer[clientTable] // the section clients in use, nil where no app runs
}

type serviceSettings struct {
	Version  string            `yaml:"version" doc:"version that is registered and shown; the build's own unless set"`
	Metadata map[string]string `yaml:"metadata" doc:"what is registered beside the version, for routing rules for instance; the name framework is taken"`
	Zone     string            `yaml:"zone" doc:"zone that is registered, and that this service's own calls stay in where they can"`
}

type serverSettings struct {
	GRPC      grpcSettings      `yaml:"grpc"`
	HTTP      httpSettings      `yaml:"http"`
	Admin     adminSettings     `yaml:"admin"`
	Advertise string            `yaml:"advertise" doc:"IP address or DNS name that others reach this instance at; detected unless set"`
	Drain     drainSettings     `yaml:"drain"`
	TLS       serverTLSSettings `yaml:"tls"`
	Auth      authSettings      `yaml:"auth"`
	Limit     limitSettings     `hot:"true"      yaml:"limit"`
	Fault     faultSettings     `yaml:"fault"`
}

type grpcSettings struct {
	Addr       string `yaml:"addr" doc:"address for gRPC, empty for none"`
	Reflection bool   `yaml:"reflection" doc:"offer gRPC reflection on the port for calls, too; the admin port always does"`
}

type adminSettings struct {
	Addr  string `yaml:"addr" doc:"address for /health, /metrics and /debug/, empty for none"`
	Debug string `yaml:"debug" doc:"who may read /debug/: off, loopback or all"`
}

type drainSettings struct {
	Delay   time.Duration `yaml:"delay" doc:"how long calls are still accepted after SIGTERM; ends early when none come"`
	Timeout time.Duration `yaml:"timeout" doc:"how long calls that have begun may take after that"`
	DumpDir string        `yaml:"dump_dir" doc:"directory for a dump of all goroutines and a trace, kept when a step of the stop takes too long, ten files at most; plinth-<service> among the temporary files unless set, off for none"`
}

type telemetrySettings struct {
	Log   logSettings   `hot:"true"  yaml:"log"`
	Trace traceSettings `yaml:"trace"`
}

type logSettings struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error"`
	Format string `yaml:"format" doc:"json, console or auto (console on a terminal)"`
}

type traceSettings struct {
	Endpoint string  `yaml:"endpoint" doc:"where spans go: http(s)://host:4318 or grpc(s)://host:4317; empty for nowhere"`
	Sample   float64 `hot:"true"      yaml:"sample" doc:"share of new traces that are sampled, 0 to 1"`
}

func defaultSettings() settings {
	return settings{
		Service: serviceSettings{Version: buildVersion()},
		Server: serverSettings{
			GRPC:  grpcSettings{Addr: ":9000"},
			HTTP:  defaultHTTP(),
			Admin: adminSettings{Addr: ":9100", Debug: server.DebugLoopback},
			Drain: drainSettings{Delay: DefaultDrainDelay, Timeout: DefaultDrainTimeout},
			Limit: limitSettings{Enabled: true},
		},
		Registry:  registrySettings{Namespace: etcd.DefaultNamespace, TTL: registry.DefaultTTL},
		Telemetry: telemetrySettings{Log: logSettings{Level: "info", Format: log.FormatAuto}, Trace: traceSettings{Sample: trace.DefaultSample}},
	}
}

// entryRoom is what the entry of an instance in the registry has room for beside
// its names, addresses and times.
const entryRoom = registry.MaxValueSize - 4<<10

// Validate checks that the instance fits into the registry.
func (s *serviceSettings) Validate() error {
	encoded, err := json.Marshal(registry.Instance{Version: s.Version, Zone: s.Zone, Metadata: s.Metadata})
	if err != nil || len(encoded) <= entryRoom {
		return err
	}
	key, size := "metadata", 0
	for k, v := range s.Metadata {
		size += len(k) + len(v)
	}
	if len(s.Zone) > size {
		key, size = "zone", len(s.Zone)
	}
	if len(s.Version) > size {
		key = "version"
	}
	return config.InvalidUnshown(key, "makes the instance's entry in the registry too large: %d bytes, at most %d beside its addresses; shorten it", len(encoded), entryRoom)
}

// Validate checks what the types cannot.
func (s *serverSettings) Validate() error {
	var errs []error
	for key, addr := range map[string]string{"grpc.addr": s.GRPC.Addr, "http.addr": s.HTTP.Addr, "admin.addr": s.Admin.Addr} {
		if addr != "" && !isAddr(addr) {
			errs = append(errs, config.Invalid(key, "is not an address to listen on, want host:port or :port, such as :9000"))
		}
	}
	if problem := hostProblem(s.Advertise); s.Advertise != "" && problem != "" {
		errs = append(errs, config.Invalid("advertise", "%s", problem))
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
	var v violations
	if v.userinfo("trace.endpoint", "give the exporter its headers in OTEL_EXPORTER_OTLP_HEADERS instead", t.Trace.Endpoint); len(v) == 0 && t.Trace.Endpoint != "" {
		if err := trace.CheckEndpoint(t.Trace.Endpoint); err != nil {
			v = append(v, config.Invalid("trace.endpoint", "%v", err))
		}
	}
	return errors.Join(append(errs, v...)...)
}

func oneOf(s string, allowed ...string) bool { return slices.Contains(allowed, s) }

// isAddr reports host:port with a port number; the host may be empty.
func isAddr(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}
