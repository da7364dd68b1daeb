package browser

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"plinth.internal/client"
	"plinth.internal/framework"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

const method = "/billing.v1.Billing/Charge"

// caller is a service "orders" that calls the service "billing".
type caller struct {
	t       *testing.T
	store   *memory.Store
	billing *registry.Registry // what the instances of billing are announced with
	app     *framework.App
	conn    *grpc.ClientConn
	admin   string // its URL
}

// start runs orders. It listens for its admin pages on a real port.
func start(t *testing.T) *caller {
	t.Helper()
	c := &caller{t: t, store: memory.NewStore()}
	c.billing = memory.Open(c.store)
	own := memory.Open(c.store)
	setup := func(_ context.Context, s *framework.Service) (err error) {
		c.conn, err = s.Client("billing")
		return err
	}
	options := []framework.Option{
		framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()), framework.WithRegistry(own),
		framework.WithSetting("server.grpc.addr", "127.0.0.1:0"), framework.WithSetting("server.admin.addr", "127.0.0.1:0"),
		framework.WithSetting("server.drain.delay", "0s"), framework.WithSetting("telemetry.log.level", "error"),
		// The default would avoid the sick one before it is ejected.
		framework.WithSetting("clients.billing.balancer", "round_robin"),
		// Long enough for a browser that starts slowly.
		framework.WithSetting("clients.billing.ejection.base", "5m"), framework.WithSetting("clients.billing.ejection.max", "10m"),
	}
	var err error
	if c.app, err = framework.New("orders", setup, options...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.app.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stop orders: %v", err)
		}
		for _, r := range []*registry.Registry{own, c.billing} {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	select {
	case <-c.app.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("start orders: %v", err)
	}
	c.admin = "http://" + c.app.Endpoints()["admin"]
	return c
}

// instance runs one instance of billing, and returns how it can be made to fail.
func (c *caller) instance(inst registry.Instance) (registry.Instance, *atomic.Pointer[status.Status]) {
	c.t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	var fault atomic.Pointer[status.Status]
	pings := keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(pings), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		if err := s.RecvMsg(new(emptypb.Empty)); err != nil {
			return err
		}
		if err := fault.Load().Err(); err != nil {
			return err
		}
		return s.SendMsg(new(emptypb.Empty))
	}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(lis)
	}()
	c.t.Cleanup(func() {
		server.Stop()
		<-served
	})
	inst.Service, inst.Endpoints = "billing", map[string]string{"grpc": lis.Addr().String()}
	return inst, &fault
}

// announce enters an instance as it does itself.
func (c *caller) announce(inst registry.Instance) {
	c.t.Helper()
	if err := c.billing.Announce(c.t.Context(), inst); err != nil {
		c.t.Fatal(err)
	}
}

// put enters an instance that nobody looks after.
func (c *caller) put(inst registry.Instance) {
	c.t.Helper()
	value, err := registry.Encode(inst)
	if err != nil {
		c.t.Fatal(err)
	}
	c.store.Put("billing", inst.ID, value)
}

// explained is what orders knows of an instance; the zero value for nothing.
func (c *caller) explained(id string) client.InstanceExplained {
	for _, s := range c.app.Clients().Clients {
		for _, e := range s.Instances {
			if e.ID == id {
				return e
			}
		}
	}
	return client.InstanceExplained{}
}

// callUntil makes calls until something is so.
func (c *caller) callUntil(what string, so func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			c.t.Fatalf("it is still not so that %s: %+v", what, c.app.Clients())
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		err := c.conn.Invoke(ctx, method, new(emptypb.Empty), new(emptypb.Empty))
		cancel()
		switch status.Code(err) {
		case codes.OK, codes.Internal:
		case codes.Unavailable: // the list has not come yet
			<-time.After(10 * time.Millisecond)
		default:
			c.t.Fatalf("the call ended with %v", err)
		}
	}
}

// fleet starts one instance of each kind that the page has to explain.
func (c *caller) fleet() {
	c.t.Helper()
	old := time.Now().Add(-time.Hour)
	well, _ := c.instance(registry.Instance{ID: "billing-well", Zone: "eu-1a", Version: "1.4.0", Started: old})
	sick, fault := c.instance(registry.Instance{ID: "billing-sick", Zone: "eu-1a", Version: "1.4.0", Started: old})
	lost, _ := c.instance(registry.Instance{ID: "billing-lost", Zone: "eu-1b", Version: "1.4.0", Started: old})
	leaves, _ := c.instance(registry.Instance{ID: "billing-leaves", Zone: "eu-1b", Version: "1.4.0", Started: old})
	c.announce(well)
	c.announce(sick)
	c.put(lost)
	c.put(leaves)
	called := func(ids ...string) func() bool {
		return func() bool {
			for _, id := range ids {
				if c.explained(id).Calls == 0 {
					return false
				}
			}
			return true
		}
	}
	c.callUntil("all are called", called("billing-well", "billing-sick", "billing-lost", "billing-leaves"))
	// Its lease ends, but not its process.
	c.store.Put("billing", lost.ID, nil)
	// It says that it goes.
	leaves.State = registry.Draining
	c.put(leaves)
	fault.Store(status.New(codes.Internal, `<img src="x" onerror="alert(1)"> the ledger is locked`))
	c.callUntil("the sick one is ejected", func() bool { e := c.explained("billing-sick").Ejection; return e != nil && e.Now })
	c.callUntil("the others are seen as they are", func() bool {
		return c.explained("billing-lost").State == client.StateQuarantined && c.explained("billing-leaves").State == client.StateDraining
	})
	young, _ := c.instance(registry.Instance{ID: "billing-young", Zone: "eu-1a", Version: "1.5.0", Started: time.Now()})
	c.announce(young)
	c.callUntil("the young one is called", called("billing-young"))
}
