// Package embedded runs an etcd server of one member inside this process, for
// the demo, for development and for tests. It is a real etcd that is tuned to
// start in well under a tenth of a second: fast ticks and no fsync, so a crash
// of the machine may lose data. Do not keep anything in it that matters.
//
// It listens on the loopback interface only, logs nothing, and neither exits
// nor panics: where etcd itself would do that, the server stops.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
)

// startTimeout bounds the start. It is reached when another etcd uses the
// directory: etcd then waits for it to end.
const startTimeout = 10 * time.Second

// Option changes a [Server] when it is started.
type Option interface {
	apply(o *options)
}

type options struct {
	clientAddr string
	quota      int64
	tokenTTL   time.Duration
	timeout    time.Duration
	abandoned  func() // called when a start that took too long has ended, nil for nothing
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// WithClientAddr sets the address for clients; the default, and empty, is
// "127.0.0.1:0", any free port. With the address of a server that was closed,
// and its directory, clients of that server find the new one. The address must be
// one of the loopback interface.
func WithClientAddr(addr string) Option {
	return optionFunc(func(o *options) { o.clientAddr = addr })
}

// WithQuota sets how many bytes the data may have; the default, and zero, is
// etcd's, 2 GiB. Beyond it etcd refuses writes until its alarm is disarmed.
func WithQuota(bytes int64) Option {
	return optionFunc(func(o *options) { o.quota = bytes })
}

// WithTokenTTL sets how long the token of a user is good who does nothing; the
// default, and zero, is etcd's, 5 minutes. A fraction of a second is rounded
// up.
func WithTokenTTL(ttl time.Duration) Option {
	return optionFunc(func(o *options) { o.tokenTTL = ttl })
}

// Server is a running etcd. Its methods may be called concurrently.
type Server struct {
	etcd     *embed.Etcd
	grpc     *grpc.Server
	endpoint string
	close    func()
}

// Start starts an etcd that keeps its data in dir, which is made if it does
// not exist, and returns when it answers. A directory that a closed server
// left is continued; one server at a time may use it, and starting a second
// one fails after ten seconds.
func Start(dir string, opts ...Option) (*Server, error) {
	o := options{timeout: startTimeout}
	for _, opt := range opts {
		opt.apply(&o)
	}
	s, err := start(dir, o)
	if err != nil {
		return nil, fmt.Errorf("start embedded etcd in %s: %w", dir, err)
	}
	return s, nil
}

// Endpoint returns the address for clients, host:port.
func (s *Server) Endpoint() string { return s.endpoint }

// Close cuts all connections, as a crash would, and stops the server. The data
// stays in the directory. Closing again does nothing.
func (s *Server) Close() { s.close() }

func start(dir string, o options) (*Server, error) {
	if o.clientAddr == "" {
		o.clientAddr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(o.clientAddr)
	if err != nil {
		return nil, fmt.Errorf("read client address %q: %w", o.clientAddr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && !ip.IsLoopback() {
		return nil, fmt.Errorf("client address %q: must be on the loopback interface, such as 127.0.0.1:0", o.clientAddr)
	}
	// etcd makes its gRPC server late, in a goroutine, and shows it only here.
	servers := make(chan *grpc.Server, 1)
	cfg := config(dir, o.clientAddr)
	cfg.QuotaBackendBytes = o.quota
	if o.tokenTTL > 0 {
		cfg.AuthTokenTTL = uint((o.tokenTTL + time.Second - 1) / time.Second)
	}
	cfg.ServiceRegister = func(g *grpc.Server) { servers <- g }

	etcd, err := startEtcd(cfg, o.timeout, o.abandoned)
	if err != nil {
		return nil, err
	}
	s := &Server{etcd: etcd, endpoint: etcd.Clients[0].Addr().String()}
	select {
	case s.grpc = <-servers: // made once the server is ready
	case <-etcd.Server.StopNotify():
		err = errors.New("the server stopped while starting, is the directory that of another etcd")
	case err = <-etcd.Err():
	case <-time.After(o.timeout):
		err = fmt.Errorf("the server is not ready after %v", o.timeout)
	}
	if err != nil {
		etcd.Close()
		return nil, err
	}
	s.close = sync.OnceFunc(s.stop)
	return s, nil
}

func (s *Server) stop() {
	// Without this, etcd waits some seconds for watches to end by themselves.
	s.grpc.Stop()
	s.etcd.Close()
}

func config(dir, clientAddr string) *embed.Config {
	client := url.URL{Scheme: "http", Host: clientAddr}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	cfg.TickMs = 10
	cfg.ElectionMs = 100
	cfg.UnsafeNoFsync = true
	cfg.BcryptCost = 4 // the least there is: the usual 10 takes seconds under the race detector
	cfg.EnableGRPCGateway = false
	return cfg
}

// giveUp is called by etcd's logger where etcd would exit or panic, with the
// reason. It ends the goroutine instead and passes the reason on.
type giveUp chan error

func (g giveUp) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	select {
	case g <- err:
	default: // one reason is enough
	}
	runtime.Goexit()
}

// startEtcd is embed.StartEtcd, but returns an error where that would exit,
// panic, or hang because a goroutine it waits for has given up. In the last
// case what it has opened so far stays open, because there is no way to get at it.
func startEtcd(cfg *embed.Config, timeout time.Duration, abandoned func()) (*embed.Etcd, error) {
	gaveUp := make(giveUp, 1)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(
		zap.New(zapcore.NewNopCore(), zap.WithFatalHook(gaveUp), zap.WithPanicHook(gaveUp)))
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	started := make(chan result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				started <- result{err: fmt.Errorf("etcd panicked: %v", p)}
			}
		}()
		etcd, err := embed.StartEtcd(cfg)
		started <- result{etcd, err}
	}()
	select {
	case r := <-started:
		return r.etcd, r.err
	case err := <-gaveUp:
		return nil, err
	case <-time.After(timeout):
		// It starts when the other has ended, and nobody wants it then.
		go func() {
			if r := <-started; r.etcd != nil {
				r.etcd.Close()
			}
			if abandoned != nil {
				abandoned()
			}
		}()
		return nil, fmt.Errorf("no start after %v, does another etcd use the directory", timeout)
	}
}
