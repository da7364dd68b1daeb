package client

import (
	"context"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	"plinth.internal/middleware"

	_ "google.golang.org/grpc/health" // the client side of health checks
)

const scheme = "plinth"

// serviceConfig picks our balancer, and has every instance asked for its health:
// one that says NOT_SERVING gets no new calls one round trip later, and a new one
// gets its first when it says SERVING. One that has no health service counts as
// healthy.
const serviceConfig = `{"loadBalancingConfig":[{"` + balancerName + `":{}}],"healthCheckConfig":{"serviceName":""}}`

// dialOptions are the client's own for the instances that the registry knows.
func (s *service) dialOptions() []grpc.DialOption {
	return append(s.transportOptions(),
		grpc.WithResolvers(resolverBuilder{s}),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(s.dial),
		grpc.WithUnaryInterceptor(middleware.ReportedUnaryClient(s.name, reported, s.chain(nil)...)),
	)
}

// transportOptions are those of all connections, whoever picks.
func (s *service) transportOptions() []grpc.DialOption {
	return []grpc.DialOption{
		// One layer retries. What never left the client is still sent again.
		grpc.WithDisableRetry(),
		grpc.WithTransportCredentials(transportCredentials{s}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:                10 * time.Second,
			Timeout:             3 * time.Second,
			PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.5, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		grpc.WithUserAgent(s.client.options.userAgent),
		grpc.WithInitialWindowSize(StreamWindow),
		grpc.WithInitialConnWindowSize(ConnectionWindow),
		grpc.WithIdleTimeout(0), // off: an idle connection is a warm one
		grpc.WithStreamInterceptor(middleware.WatchedStreamClient(s.name, watchStream, s.apart(nil)...)),
	}
}

// dial makes a connection, or gives up in time.
func (s *service) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.settings("").connectTimeout())
	defer cancel()
	return s.client.options.dial(ctx, addr)
}

// resolverBuilder is used through grpc.WithResolvers only: nothing is
// registered in the process.
type resolverBuilder struct{ service *service }

func (b resolverBuilder) Scheme() string { return scheme }

func (b resolverBuilder) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	s := b.service
	ctx, cancel := context.WithCancel(s.client.ctx)
	// Not through client.watch: Build runs within Conn, which holds the lock
	// and has seen that the client is open. (Later only if a user's options
	// bring back the idle mode, which a closed connection does not leave.)
	s.client.wg.Go(func() {
		defer cancel()
		s.watch(ctx, s.grpc, func(v *view) {
			if !v.known {
				cc.ReportError(v.err)
				return
			}
			state := resolver.State{Attributes: attributes.New(viewKey{}, v)}
			for _, n := range slices.Concat(v.nodes, v.spares) {
				state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: n.addr, Attributes: attributes.New(restKey{}, n.rest)}}})
			}
			_ = cc.UpdateState(state) // its error asks for a new list; ours come by themselves
		})
	})
	return watchResolver{cancel}, nil
}

// viewKey is the attribute under which the balancer finds the view.
type viewKey struct{}

type watchResolver struct{ cancel context.CancelFunc }

func (watchResolver) ResolveNow(resolver.ResolveNowOptions) {} // the watch is never behind
func (r watchResolver) Close()                              { r.cancel() }
