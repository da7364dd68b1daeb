package framework

import (
	"io"
	"maps"
	"net"
	"slices"

	"google.golang.org/grpc"

	"plinth.internal/client"
	"plinth.internal/config"
	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
	"plinth.internal/registry"
)

// DefaultConfigFile is read from the working directory where it exists and no
// other file is named.
const DefaultConfigFile = "plinth.yaml"

// Option changes an [App] when it is built.
type Option interface{ apply(o *options) }

type options struct {
	configFile   string
	fileRequired bool
	environ      []string // nil means the process' own
	settings     map[string]string
	listeners    map[string]net.Listener
	registry     *registry.Registry
	client       []client.Option
	serverGRPC   []grpc.ServerOption
	middleware   []middleware.Middleware
	logOutput    io.Writer
	events       func(Event)
	configFeed   config.Feed          // nil for the registry's
	auth         *auth.Policy         // nil where the code declares none
	validator    middleware.Validator // nil for none
	heapFloor    int64
	elector      registry.Elector // nil for that of the registry
	unbuilt      bool             // the configuration is all that is wanted of the app
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// flags are the settings as config.WithFlags takes them.
func (o *options) flags() []string {
	out := make([]string, 0, len(o.settings))
	for _, key := range slices.Sorted(maps.Keys(o.settings)) {
		out = append(out, key+"="+o.settings[key])
	}
	return out
}

// WithConfigFile reads the configuration from a file that must exist. Without
// it, plinth.yaml in the working directory is read where there is one; "" reads
// none.
func WithConfigFile(path string) Option {
	return optionFunc(func(o *options) { o.configFile, o.fileRequired = path, path != "" })
}

// WithEnviron takes the environment from a list as os.Environ gives it, in place
// of the process' own; an empty list is an empty environment.
func WithEnviron(environ []string) Option {
	return optionFunc(func(o *options) { o.environ = append([]string{}, environ...) })
}

// WithSetting sets a key, such as "server.grpc.addr", above the file and the
// environment, as a command-line flag does. A later one wins.
func WithSetting(key, value string) Option {
	return optionFunc(func(o *options) { o.settings[key] = value })
}

// WithListener serves on a listener in place of the configured address. The
// name is "grpc", "http" or "admin"; any other is an error of [New]. The app closes
// it. Nil leaves the configured address.
func WithListener(name string, l net.Listener) Option {
	return optionFunc(func(o *options) { o.listeners[name] = l })
}

// WithRegistry uses a registry in place of the configured one. The app withdraws
// its own instance and leaves the registry open.
func WithRegistry(r *registry.Registry) Option {
	return optionFunc(func(o *options) { o.registry = r })
}

// WithElector has the elections of jobs held by an elector in place of the
// registry's. The app leaves it open. Apps of one service must share it.
func WithElector(e registry.Elector) Option {
	return optionFunc(func(o *options) { o.elector = e })
}

// WithClientOptions adds options to the client behind Service.Client and
// Service.HTTPClient.
func WithClientOptions(opts ...client.Option) Option {
	return optionFunc(func(o *options) { o.client = append(o.client, opts...) })
}

// WithServerOptions adds options to the gRPC server, after the framework's own:
// grpc.MaxRecvMsgSize, for example, where requests are larger than grpc's
// default of 4 MB. The framework uses the options for one interceptor itself:
// add interceptors with grpc.ChainUnaryInterceptor and
// grpc.ChainStreamInterceptor, which come inside of all middlewares. What
// grpc.UnknownServiceHandler answers is [middleware.Unmatched] to the middlewares,
// and to rules for methods.
func WithServerOptions(opts ...grpc.ServerOption) Option {
	return optionFunc(func(o *options) { o.serverGRPC = append(o.serverGRPC, opts...) })
}

// WithMiddleware adds middlewares around the handlers of gRPC and HTTP alike,
// inside of the framework's own; the first one is the outermost.
func WithMiddleware(ms ...middleware.Middleware) Option {
	return optionFunc(func(o *options) { o.middleware = append(o.middleware, ms...) })
}

// WithLogOutput sends log lines to w in place of standard error.
func WithLogOutput(w io.Writer) Option {
	return optionFunc(func(o *options) { o.logOutput = w })
}

// WithEvents has fn told of everything that the app does, beside the log. It is
// called from several goroutines and must return quickly.
func WithEvents(fn func(Event)) Option {
	return optionFunc(func(o *options) { o.events = fn })
}
