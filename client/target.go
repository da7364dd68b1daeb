package client

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/stats"

	"plinth.internal/middleware"
)

// targetConfig is for targets whose resolver does not say how to balance: the
// calls are spread, where grpc's own default is to stay with the first address.
const targetConfig = `{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""}}`

// destination is what grpc connects to, and how: the instances that the registry
// knows, or the service's target.
func (s *service) destination() (target string, opts []grpc.DialOption, err error) {
	if s.target == "" {
		return scheme + ":///" + s.name, s.dialOptions(), nil
	}
	if err := checkTarget(s.target); err != nil {
		return "", nil, err
	}
	creds, err := s.client.options.targetCreds(transportCredentials{s})
	if err != nil {
		return "", nil, fmt.Errorf("make credentials for target %q: %w", s.target, err)
	}
	return s.target, append(s.transportOptions(),
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(targetConfig),
		grpc.WithContextDialer(s.dialTarget),
		grpc.WithStatsHandler(placement{}),
		grpc.WithUnaryInterceptor(middleware.UnaryClient(s.name, s.chain(nil)...)),
	), nil
}

// checkTarget accepts a target that grpc has a resolver for. grpc itself would
// take any other one for the name of a host.
func checkTarget(target string) error {
	u, err := url.Parse(target)
	if err != nil || u.Scheme == "" {
		return fmt.Errorf("use target %q: want a scheme and what it resolves, such as dns:///host:port", target)
	}
	switch {
	case resolver.Get(u.Scheme) != nil:
		return nil
	case u.Scheme == "xds":
		return fmt.Errorf(`use target %q: xDS is not linked into this program: add import _ "plinth.internal/client/xds" to its main package`, target)
	}
	return fmt.Errorf("use target %q: no resolver for the scheme %q is registered with grpc; a plain address is written dns:///host:port", target, u.Scheme)
}

// dialTarget makes a connection to an address that a target resolves to. grpc
// gives sockets of the file system as they are written in a target, and those of
// Linux' abstract namespace with a NUL in front.
func (s *service) dialTarget(ctx context.Context, addr string) (net.Conn, error) {
	path, socket := strings.CutPrefix(addr, "unix:")
	if !socket && !strings.HasPrefix(addr, "\x00") {
		return s.dial(ctx, addr)
	}
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		path = rest
	}
	ctx, cancel := context.WithTimeout(ctx, s.settings("").connectTimeout())
	defer cancel()
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// placement tells an attempt what became of it where somebody else's balancer
// picks: nothing, or the address that it was sent to.
type placement struct{}

func (placement) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (placement) HandleRPC(ctx context.Context, s stats.RPCStats) {
	a := attemptOf(ctx)
	if a == nil {
		return
	}
	switch s := s.(type) {
	case *stats.Begin:
		// If it is not the first one, grpc sends again what was provably not
		// processed.
		a.sent.Store(false)
		a.remote.Store(nil)
	case *stats.OutHeader:
		a.sent.Store(true)
		a.remote.Store(new(s.RemoteAddr.String()))
	case *stats.InHeader:
		a.heard.Store(true)
	}
}

func (placement) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (placement) HandleConn(context.Context, stats.ConnStats)                       {}
