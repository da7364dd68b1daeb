package xds_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3" // named in a listener
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// meshListener is the file that TestMain has handed down.
var meshListener = sync.OnceValue(func() *os.File { return os.NewFile(3, "the control plane's listener") })

// plane is a control plane that knows one service.
type plane struct {
	service string
	// socket is the cluster's transport socket, "" for none; timeout the
	// route's, "" for none.
	socket, timeout string
	cache           cache.SnapshotCache
	stop            func()
	version         int
}

// startPlane serves until the test ends. The clients of the tests before are
// closed, so that nobody remembers what an earlier one said.
func startPlane(t *testing.T, service string) *plane {
	t.Helper()
	// The listener is closed with the server; its file stays for the next test.
	lis, err := net.FileListener(meshListener())
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{service: service, cache: cache.NewSnapshotCache(true, cache.IDHash{}, nil)}
	ctx, cancel := context.WithCancel(context.Background())
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, serverv3.NewServer(ctx, p.cache, nil))
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(lis) })
	p.stop = func() {
		cancel()
		server.Stop()
		wg.Wait()
	}
	t.Cleanup(p.stop)
	return p
}

// say sends the clients to the instances.
func (p *plane) say(t *testing.T, instances ...*instance) {
	t.Helper()
	p.version++
	endpoints := []any{}
	for _, i := range instances {
		host, port, err := net.SplitHostPort(i.addr)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		endpoints = append(endpoints, object{"endpoint": object{"address": object{"socketAddress": object{"address": host, "portValue": n}}}})
	}
	action := object{"cluster": p.service + "-cluster"}
	if p.timeout != "" {
		action["maxStreamDuration"] = object{"maxStreamDuration": p.timeout}
	}
	cluster := object{
		"name": p.service + "-cluster", "type": "EDS", "lbPolicy": "ROUND_ROBIN",
		"edsClusterConfig": object{"edsConfig": object{"ads": object{}}, "serviceName": p.service + "-endpoints"},
	}
	if p.socket != "" {
		cluster["transportSocket"] = json.RawMessage(p.socket)
	}
	const types3 = "type.googleapis.com/envoy.extensions.filters."
	snapshot, err := cache.NewSnapshot(strconv.Itoa(p.version), map[resource.Type][]types.Resource{
		resource.ListenerType: {message(t, new(listenerv3.Listener), object{
			"name": p.service,
			"apiListener": object{"apiListener": object{
				"@type":       types3 + "network.http_connection_manager.v3.HttpConnectionManager",
				"rds":         object{"configSource": object{"ads": object{}}, "routeConfigName": p.service + "-routes"},
				"httpFilters": []any{object{"name": "router", "typedConfig": object{"@type": types3 + "http.router.v3.Router"}}},
			}},
		})},
		resource.RouteType: {message(t, new(routev3.RouteConfiguration), object{
			"name": p.service + "-routes",
			"virtualHosts": []any{object{
				"name": "all", "domains": []any{"*"}, "routes": []any{object{"match": object{"prefix": ""}, "route": action}},
			}},
		})},
		resource.ClusterType: {message(t, new(clusterv3.Cluster), cluster)},
		resource.EndpointType: {message(t, new(endpointv3.ClusterLoadAssignment), object{
			"clusterName": p.service + "-endpoints",
			"endpoints": []any{object{
				"locality": object{"region": "here"}, "loadBalancingWeight": 1, "lbEndpoints": endpoints,
			}},
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cache.SetSnapshot(t.Context(), meshNode, snapshot); err != nil {
		t.Fatal(err)
	}
}

type object map[string]any

// message makes a message of its JSON form.
func message[M proto.Message](t *testing.T, m M, from object) M {
	t.Helper()
	b, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(b, m); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return m
}

// mutualTLS is a transport socket with the certificates of the bootstrap file,
// for instances with this identity. grpc reads no other field for the identity.
func mutualTLS(identity string) string {
	return `{"name": "envoy.transport_sockets.tls", "typedConfig": {
		"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
		"commonTlsContext": {
			"tlsCertificateProviderInstance": {"instanceName": "mesh"},
			"validationContext": {
				"caCertificateProviderInstance": {"instanceName": "mesh"},
				"matchSubjectAltNames": [{"exact": "` + identity + `"}]
			}
		}
	}}`
}
