package etcd

import (
	"context"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"plinth.internal/internal/loopback"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an etcd that a test stops and starts on one address.
type server struct {
	t       *testing.T
	dir     string
	addr    string
	opts    []embedded.Option
	running *embedded.Server
}

// newServer starts an etcd; it is closed at the end of the test.
func newServer(t *testing.T, opts ...embedded.Option) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), addr: freeAddr(t), opts: opts}
	s.start()
	t.Cleanup(s.stop)
	return s
}

var addresses loopback.Addresses

// freeAddr is an address that stays free while no server of the test is there.
func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := addresses.Next()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func (s *server) start() {
	s.t.Helper()
	running, err := embedded.Start(s.dir, append(s.opts, embedded.WithClientAddr(s.addr))...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.running, s.addr = running, running.Endpoint()
}

func (s *server) stop() { s.running.Close() }

// dial returns a client that is closed at the end of the test.
func (s *server) dial(cfg Config) *clientv3.Client {
	s.t.Helper()
	cfg.Endpoints = []string{s.addr}
	client, err := Dial(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { client.Close() })
	return client
}

// open returns a registry with a client of its own, both closed at the end of
// the test.
func (s *server) open(opts ...registry.Option) *registry.Registry {
	s.t.Helper()
	reg := Open(s.dial(Config{}), WithRegistry(opts...))
	s.t.Cleanup(func() { reg.Close() })
	return reg
}

const testKey = "/plinth/services/orders/o-1"

func testInstance() registry.Instance {
	return registry.Instance{ID: "o-1", Service: "orders", Endpoints: map[string]string{"grpc": "10.0.0.1:9000"}, Weight: 10}
}

// key returns the entry of the test's instance, nil if there is none.
func key(t *testing.T, client *clientv3.Client) (value string, lease clientv3.LeaseID, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	response, err := client.Get(ctx, testKey)
	if err != nil {
		t.Fatalf("get %s: %v", testKey, err)
	}
	if len(response.Kvs) == 0 {
		return "", 0, false
	}
	return string(response.Kvs[0].Value), clientv3.LeaseID(response.Kvs[0].Lease), true
}

// within polls until ok, and returns how long that took.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > limit {
			t.Fatalf("no %s within %v", what, limit)
		}
		<-tick.C
	}
	return time.Since(began)
}

// view follows a watch; the latest update is in last.
type view struct {
	mu      sync.Mutex
	last    registry.Snapshot
	err     error
	emptied bool // after a list that was not empty
}

func follow(t *testing.T, reg *registry.Registry) *view {
	t.Helper()
	v := &view{}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for snapshot, err := range reg.Watch(ctx, "orders") {
			v.mu.Lock()
			v.emptied = v.emptied || len(v.last.Instances) > 0 && len(snapshot.Instances) == 0
			v.last, v.err = snapshot, err
			v.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return v
}

func (v *view) load() (registry.Snapshot, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last, v.err
}

// has reports whether the latest list is good and has an instance of that ID.
func (v *view) has(id string) bool {
	snapshot, err := v.load()
	for _, inst := range snapshot.Instances {
		if inst.ID == id {
			return err == nil
		}
	}
	return false
}
