package zookeeper

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"plinth.internal/registry"
)

// phases collects the phases of announcements.
type phases struct {
	mu   sync.Mutex
	list []string
}

func (p *phases) add(e registry.Event) {
	if e, ok := e.(registry.AnnouncementChanged); ok && e.From != e.To {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.list = append(p.list, fmt.Sprintf("%s (%v)", e.To, e.Err))
	}
}

func (p *phases) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.list, ", ")
}

func announce(t *testing.T, reg *registry.Registry) {
	t.Helper()
	if err := reg.Announce(context.WithoutCancel(t.Context()), testInstance()); err != nil {
		t.Fatal(err)
	}
}

func TestServerRestartKeepsTheSession(t *testing.T) {
	s := newServer(t)
	var events phases
	reg := s.open(WithRegistry(registry.WithTTL(30*time.Second), registry.WithEvents(events.add)))
	v := follow(t, s.open())
	announce(t, reg)
	within(t, 5*time.Second, "instance in the watch", func() bool { return v.has("o-1") })
	client := s.client()
	before, _ := exists(t, client, testPath)

	s.stop()
	within(t, 10*time.Second, "error of the watch", func() bool { _, err := v.load(); return err != nil })
	s.start()
	took := within(t, 10*time.Second, "recovered watch", func() bool { return v.has("o-1") })
	t.Logf("watch recovered %v after the server", took)
	inst := testInstance()
	inst.Weight = 7
	within(t, 10*time.Second, "connection of the session", func() bool {
		if err := reg.Announce(context.WithoutCancel(t.Context()), inst); err != nil {
			t.Fatal(err)
		}
		return reg.Status().Err == nil
	})
	within(t, 5*time.Second, "update in the watch", func() bool {
		snapshot, _ := v.load()
		return len(snapshot.Instances) == 1 && snapshot.Instances[0].Weight == 7
	})
	if after, ok := exists(t, client, testPath); !ok || after != before {
		t.Errorf("the node is in session %x, want that of before, %x", after, before)
	}
	if strings.Contains(events.String(), "lost") {
		t.Errorf("phases: %s; want no loss", &events)
	}
	if v.emptied {
		t.Error("the watch saw an empty list")
	}
}

func TestWipe(t *testing.T) {
	s := newServer(t)
	reg := s.open(WithRegistry(registry.WithTTL(time.Minute)))
	reader := s.open()
	v := follow(t, reader)
	announce(t, reg)
	within(t, 5*time.Second, "instance in the watch", func() bool { return v.has("o-1") })

	s.stop()
	s.wipe()
	s.start()
	client := s.client()
	// The session would last for a minute more, and no server takes it.
	took := within(t, 15*time.Second, "node on the wiped server", func() bool { _, ok := exists(t, client, testPath); return ok })
	t.Logf("node back %v after the wiped server", took)
	second := s.open()
	inst := testInstance()
	inst.ID = "o-2"
	if err := second.Announce(context.WithoutCancel(t.Context()), inst); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "change made after the wipe", func() bool { return v.has("o-1") && v.has("o-2") })
	if v.emptied {
		t.Error("the watch saw an empty list")
	}
}

func TestSessionExpiry(t *testing.T) {
	// The server grants a second where the registry asks for thirty: so the
	// session expires before the registry could know it by itself.
	s := newServerWith(t, time.Second)
	var g gate
	var events phases
	reg := s.open(WithDialer(g.dial), WithRegistry(registry.WithTTL(30*time.Second), registry.WithEvents(events.add)))
	announce(t, reg)
	client := s.client()
	before, ok := exists(t, client, testPath)
	if !ok || before == 0 {
		t.Fatalf("node is there: %v, in session %x; want it to be ephemeral", ok, before)
	}
	g.cut()
	within(t, 10*time.Second, "expiry", func() bool { _, ok := exists(t, client, testPath); return !ok })
	g.heal()
	took := within(t, 15*time.Second, "new node", func() bool { after, ok := exists(t, client, testPath); return ok && after != before })
	t.Logf("node back %v after the network", took)
	if got := events.String(); !strings.Contains(got, "lost") || !strings.Contains(got, "expired") {
		t.Errorf("phases: %s; want a loss because the session expired", got)
	}
}

func TestServerHangs(t *testing.T) {
	s := newServer(t)
	var events phases
	reg := s.open(WithRegistry(registry.WithTTL(2*time.Second), registry.WithEvents(events.add)))
	v := follow(t, s.open())
	announce(t, reg)
	within(t, 5*time.Second, "instance in the watch", func() bool { return v.has("o-1") })
	if err := s.process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := sync.OnceFunc(func() { s.process.Process.Signal(syscall.SIGCONT) })
	defer resume()
	took := within(t, 15*time.Second, "loss", func() bool { return reg.Status().State == registry.Lost })
	if took < time.Second {
		t.Errorf("lost after %v: sooner than the TTL", took)
	}
	within(t, 15*time.Second, "error of the watch", func() bool { _, err := v.load(); return err != nil })
	resume()
	took = within(t, 15*time.Second, "registration", func() bool { s := reg.Status(); return s.State == registry.Registered && s.Err == nil })
	t.Logf("registered %v after the server went on", took)
	within(t, 15*time.Second, "recovered watch", func() bool { return v.has("o-1") })
	if v.emptied {
		t.Error("the watch saw an empty list")
	}
	if got := events.String(); !strings.Contains(got, "not confirmed for 2s") {
		t.Errorf("phases: %s; want to read why it was lost", got)
	}
}

func TestPutBack(t *testing.T) {
	s := newServer(t)
	client := s.client()
	reg := s.open(WithRegistry(registry.WithTTL(2 * time.Second)))
	put(t, client, testPath, []byte("left by somebody")) // and not ephemeral
	announce(t, reg)
	owner, _ := exists(t, client, testPath)
	if owner == 0 {
		t.Fatal("the node that was there was not replaced")
	}
	tests := []struct {
		name string
		harm func()
	}{
		{"deleted", func() { put(t, client, testPath, nil) }},
		{"changed", func() { put(t, client, testPath, []byte("{}")) }},
		{"taken", func() {
			put(t, client, testPath, nil)
			if _, err := client.Create(testPath, []byte("{}"), zk.FlagEphemeral, acl); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.harm()
			took := within(t, 10*time.Second, "node as before", func() bool {
				value, stat, err := client.Get(testPath)
				return err == nil && strings.Contains(string(value), `"weight":10`) && stat.EphemeralOwner != client.SessionID()
			})
			t.Logf("put back after %v", took)
		})
	}
}

// marks returns the marks of the service's withdrawn instances.
func marks(t *testing.T, client *zk.Conn) (list []string) {
	t.Helper()
	names, _, err := client.Children("/plinth/services/orders")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			list = append(list, name)
		}
	}
	return list
}

func TestWithdrawalIsSeenAsOne(t *testing.T) {
	s := newServer(t)
	client := s.client()
	old := mark{time.Now().Add(-2 * markLife), "o-9"}
	recent := mark{time.Now(), "o-8"}
	for _, m := range []mark{old, recent} {
		put(t, client, "/plinth/services/orders/"+m.String(), []byte{})
	}
	reg := s.open()
	v := follow(t, s.open())
	// The draining mark and the deletion follow each other too quickly for a
	// watcher to see the first.
	for range 20 {
		announce(t, reg)
		within(t, 5*time.Second, "instance in the watch", func() bool { return v.has("o-1") })
		if err := reg.Withdraw(t.Context(), "o-1"); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "list without the instance", func() bool { return !v.has("o-1") })
		snapshot, err := v.load()
		if len(snapshot.Skipped) > 0 || err != nil {
			t.Fatalf("list: skipped %v, error %v; want neither", snapshot.Skipped, err)
		}
	}
	left := marks(t, client)
	if len(left) != 2 { // the latest of o-1, and o-8
		t.Errorf("marks: %v, want one of o-1 and one of o-8", left)
	}
	announce(t, reg)
	if left := marks(t, client); len(left) != 1 || left[0] != recent.String() {
		t.Errorf("marks after the instance came back: %v, want %v only", left, recent)
	}
}

func TestGarbage(t *testing.T) {
	s := newServer(t)
	client := s.client()
	reg := s.open()
	announce(t, reg)
	v := follow(t, s.open())
	dir := "/plinth/services/orders/"
	values := map[string][]byte{
		"binary":    {0, 0xff, '{'},
		"empty":     {},
		"list":      []byte("[]"),
		"port-zero": []byte(`{"endpoints":{"grpc":"10.0.0.1:0"}}`),
		"large":     []byte(`{"endpoints":{"grpc":"10.0.0.1:1"},"metadata":{"x":"` + strings.Repeat("x", 900_000) + `"}}`),
		"other":     []byte(`{"id":"else","endpoints":{"grpc":"10.0.0.1:1"}}`),
		"bad name":  []byte(`{"endpoints":{"grpc":"10.0.0.1:1"}}`),
		".hidden":   []byte(`{"endpoints":{"grpc":"10.0.0.1:1"}}`),
		"parent":    []byte(`nothing`),
	}
	for name, value := range values {
		put(t, client, dir+name, value)
	}
	put(t, client, dir+"parent/child", []byte(`{"endpoints":{"grpc":"10.0.0.1:1"}}`))
	within(t, 10*time.Second, "skipped entries", func() bool {
		snapshot, err := v.load()
		return err == nil && len(snapshot.Skipped) == len(values)
	})
	snapshot, _ := v.load()
	if len(snapshot.Instances) != 1 || snapshot.Instances[0].ID != "o-1" {
		t.Errorf("instances: %+v, want o-1 only", snapshot.Instances)
	}
	for _, skipped := range snapshot.Skipped {
		if _, ok := values[strings.TrimPrefix(skipped.Key, dir)]; !ok || skipped.Err == nil {
			t.Errorf("skipped %+v: unknown key or no error", skipped)
		}
	}
	// An instance cannot take the place of a node with children, and says so.
	inst := testInstance()
	inst.ID = "parent"
	if err := reg.Announce(t.Context(), inst); err != nil {
		t.Fatal(err)
	}
	if err := reg.Status().Err; err == nil || !strings.Contains(err.Error(), "has children") {
		t.Errorf("error of an instance whose node has children: %+v, want to read that", reg.Status())
	}
}

func TestSecondServerIsUsed(t *testing.T) {
	s := newServer(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The first server accepts and never says a word.
	reg, err := Open([]string{l.Addr().String(), s.addr})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	v := follow(t, reg)
	announce(t, reg)
	within(t, 20*time.Second, "instance in the watch", func() bool { return v.has("o-1") })
}

func TestManyInstances(t *testing.T) {
	s := newServer(t)
	client := s.client()
	put(t, client, testPath, []byte(`{"endpoints":{"grpc":"10.0.0.1:1"}}`))
	v := follow(t, s.open())
	within(t, 5*time.Second, "first list", func() bool { return v.has("o-1") })
	const n = 1000
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			node := fmt.Sprintf("/plinth/services/orders/i-%d", i)
			if _, err := client.Create(node, []byte(`{"endpoints":{"grpc":"10.0.0.1:1"}}`), 0, acl); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	took := within(t, 20*time.Second, "all instances", func() bool {
		snapshot, _ := v.load()
		return len(snapshot.Instances) == n+1
	})
	t.Logf("%d instances seen %v after the last was written", n, took)
	began := time.Now()
	cold := follow(t, s.open())
	within(t, 20*time.Second, "all instances in a new watch", func() bool {
		snapshot, _ := cold.load()
		return len(snapshot.Instances) == n+1
	})
	t.Logf("a new watch has them after %v", time.Since(began))
	// Each change of one is seen, whichever it is.
	for _, i := range []int{0, 17, n - 1} {
		id := fmt.Sprintf("i-%d", i)
		put(t, client, "/plinth/services/orders/"+id, []byte(`{"endpoints":{"grpc":"10.0.0.1:1"},"state":"draining"}`))
		for _, v := range []*view{v, cold} {
			within(t, 5*time.Second, "draining mark of "+id, func() bool {
				snapshot, _ := v.load()
				for _, inst := range snapshot.Instances {
					if inst.ID == id {
						return inst.State == registry.Draining
					}
				}
				return false
			})
		}
	}
}
