package xds_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"plinth.internal/framework"
	"plinth.internal/registry/memory"
)

// TestMeshFramework: a service needs no code but the import; its calls are
// counted and explained as any others.
func TestMeshFramework(t *testing.T) {
	p := startPlane(t, "orders")
	i := startInstance(t)
	p.say(t, i)
	reg := memory.Open(memory.NewStore())
	t.Cleanup(func() { _ = reg.Close() })
	var orders *grpc.ClientConn
	setup := func(_ context.Context, s *framework.Service) error {
		var err error
		orders, err = s.Client("orders")
		return err
	}
	app, err := framework.New("caller", setup, framework.WithRegistry(reg), framework.WithConfigFile(""), framework.WithEnviron(nil),
		framework.WithSetting("server.grpc.addr", "127.0.0.1:0"), framework.WithSetting("server.admin.addr", "127.0.0.1:0"),
		framework.WithSetting("clients.default.target", "xds:///{service}"), framework.WithLogOutput(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	select {
	case <-app.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	for range 3 {
		if id, err := get(t.Context(), orders); err != nil || len(id) != 32 {
			t.Fatalf("answered %q, %v", id, err)
		}
	}
	metrics := fetch(t, "http://"+app.Endpoints()["admin"]+"/metrics")
	if !strings.Contains(metrics, `plinth_client_attempts_total{method="orders.v1.Orders/Get",service="orders"} 3`) {
		t.Errorf("the calls are not counted:\n%s", metrics)
	}
	clients := fetch(t, "http://"+app.Endpoints()["admin"]+"/debug/clients")
	if !strings.Contains(clients, `over grpc the calls go to xds:///orders, whose own balancer picks the instance`) {
		t.Errorf("the calls are not explained:\n%s", clients)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
