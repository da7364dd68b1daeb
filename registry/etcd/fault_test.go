package etcd

import (
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry"
	"plinth.internal/registry/etcd/embedded"
)

// present reports whether the latest list is good and has the instance, not in
// quarantine.
func (v *view) present(id string) bool {
	snapshot, _ := v.load()
	_, absent := snapshot.Quarantined[id]
	return v.has(id) && !absent
}

func (v *view) wasEmptied() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.emptied
}

// An etcd that is restored from an older copy of its data.
func TestOlderData(t *testing.T) {
	s := newServer(t)
	reg, short, late, reader, after := s.open(), s.open(), s.open(), s.open(), s.open()
	client := s.dial(Config{})
	old := testInstance()
	old.ID, old.Endpoints = "old", map[string]string{"grpc": "10.0.0.9:9000"}
	if err := errors.Join(reg.Announce(t.Context(), testInstance()), short.Announce(t.Context(), old)); err != nil {
		t.Fatal(err)
	}
	s.stop()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	s.start()

	seen := follow(t, reader)
	second := testInstance()
	second.ID, second.Endpoints = "o-2", map[string]string{"grpc": "10.0.0.2:9000"}
	within(t, 5*time.Second, "changes after the copy", func() bool {
		old.Weight++
		return late.Announce(t.Context(), second) == nil && late.Status().Err == nil &&
			short.Announce(t.Context(), old) == nil && short.Status().Err == nil
	})
	if err := short.Withdraw(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	// Far beyond the copy's revision.
	for range 50 {
		if _, err := client.Put(t.Context(), "/other", "x"); err != nil {
			t.Fatal(err)
		}
	}
	within(t, 5*time.Second, "list", func() bool { return seen.present("o-1") && seen.present("o-2") && !seen.has("old") })
	before, _ := seen.load()

	s.stop()
	s.dir = copied
	s.start()
	within(t, 3*time.Second, "both in the older etcd", func() bool {
		now, _ := seen.load()
		return seen.present("o-1") && seen.present("o-2") && now.Revision < before.Revision
	})
	third := testInstance()
	third.ID, third.Endpoints = "o-3", map[string]string{"grpc": "10.0.0.3:9000"}
	if err := after.Announce(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Second, "change after the restore", func() bool { return seen.present("o-3") })
	if seen.wasEmptied() {
		t.Error("the watcher was shown an empty list")
	}
}

// What an operator wanted is still wanted when etcd has forgotten it.
func TestOverrideSurvivesWipe(t *testing.T) {
	s := newServer(t)
	reg, reader := s.open(), s.open()
	client := s.dial(Config{})
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	name := overrideKey(DefaultNamespace, "orders", "o-1")
	write(t, client, name, []byte(`{"weight":77}`))
	seen := follow(t, reader)
	weight := func() int {
		snapshot, err := seen.load()
		if err != nil || len(snapshot.Instances) != 1 {
			return -1
		}
		return snapshot.Instances[0].Weight
	}
	within(t, 5*time.Second, "weight", func() bool { return weight() == 77 })

	s.stop()
	s.dir = t.TempDir()
	s.start()
	within(t, 5*time.Second, "override in the new etcd", func() bool {
		got, err := client.Get(t.Context(), name)
		return err == nil && len(got.Kvs) == 1 && string(got.Kvs[0].Value) == `{"weight":77}`
	})
	within(t, 5*time.Second, "weight in the new etcd", func() bool { return seen.present("o-1") && weight() == 77 })

	// And can be taken back there.
	write(t, client, name, nil)
	within(t, 5*time.Second, "own weight", func() bool { return weight() == 10 })
	s.stop()
	s.start() // the same etcd without the key: nothing to put back
	inst := testInstance()
	within(t, 5*time.Second, "write", func() bool {
		inst.Weight++
		return reg.Announce(t.Context(), inst) == nil && reg.Status().Err == nil
	})
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Get(t.Context(), "", clientv3.WithPrefix()); err != nil || len(got.Kvs) > 0 {
		t.Errorf("keys after Close: %v, %v; want none", got, err)
	}
}

// valve is a TCP proxy that can stop forwarding without closing anything.
type valve struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed while it forwards
	conns []net.Conn
}

func newValve(t *testing.T, target string) *valve {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{listener: listener, open: make(chan struct{})}
	v.turn(true)
	v.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", target)
			if err != nil {
				conn.Close()
				continue
			}
			v.mu.Lock()
			v.conns = append(v.conns, conn, back)
			v.mu.Unlock()
			v.wg.Go(func() { v.copy(back, conn) })
			v.wg.Go(func() { v.copy(conn, back) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		v.turn(true)
		v.mu.Lock()
		for _, conn := range v.conns {
			conn.Close()
		}
		v.mu.Unlock()
		v.wg.Wait()
	})
	return v
}

func (v *valve) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		v.mu.Lock()
		open := v.open
		v.mu.Unlock()
		<-open
		if _, werr := to.Write(buffer[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (v *valve) turn(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case !on:
		v.open = make(chan struct{})
	case !isClosed(v.open):
		close(v.open)
	}
}

// A network that swallows everything: no answer, and no error either.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hole := newValve(t, s.addr)
	dial := func() *clientv3.Client {
		client, err := Dial(Config{Endpoints: []string{hole.listener.Addr().String()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		return client
	}
	reg := Open(dial(), WithRegistry(registry.WithTTL(time.Second)))
	reader := Open(dial())
	outside := s.open()
	t.Cleanup(func() { reg.Close(); reader.Close() })
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	seen, healthy := follow(t, reader), follow(t, outside)
	within(t, 2*time.Second, "first list", func() bool { return seen.present("o-1") && healthy.present("o-1") })

	hole.turn(false)
	within(t, 5*time.Second, "loss", func() bool { return reg.Status().State == registry.Lost })
	within(t, keepaliveTime+keepaliveTimeout+4*time.Second, "error of the watch", func() bool {
		_, err := seen.load()
		return err != nil
	})
	if !seenAlone(seen, "o-1") {
		t.Error("the list beside the error is not the last good one")
	}
	// Who can still see etcd sees the lease end, and believes nothing of it.
	within(t, 2*time.Second, "quarantine", func() bool { return healthy.has("o-1") && !healthy.present("o-1") })

	hole.turn(true)
	took := within(t, connectTimeout+3*time.Second, "registration", func() bool {
		return reg.Status().State == registry.Registered && healthy.present("o-1") && seen.present("o-1")
	})
	t.Logf("back %v after the network", took)
	if seen.wasEmptied() || healthy.wasEmptied() {
		t.Error("a watcher was shown an empty list")
	}
}

func seenAlone(v *view, id string) bool {
	snapshot, _ := v.load()
	return len(snapshot.Instances) == 1 && snapshot.Instances[0].ID == id
}

func enableAuth(t *testing.T, root *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { _, err := root.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := root.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := root.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// The token of a user who is idle expires between any two of our requests.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	s := newServer(t, embedded.WithTokenTTL(time.Second))
	enableAuth(t, s.dial(Config{}))
	user := Config{Username: "root", Password: "secret"}
	client, other := s.dial(user), s.dial(user)
	// The lease is renewed every two seconds.
	events := make(chan registry.Event, 100)
	reg := Open(client, WithRegistry(registry.WithTTL(6*time.Second), registry.WithEvents(func(e registry.Event) { events <- e })))
	defer reg.Close()
	reader := Open(s.dial(user))
	defer reader.Close()
	seen := follow(t, reader)
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "first list", func() bool { return seen.present("o-1") })
	_, lease, _ := key(t, other)

	<-time.After(7 * time.Second) // longer than the TTL; nobody else uses the clients
	if _, now, ok := key(t, other); !ok || now != lease {
		t.Errorf("the key is there: %v, under lease %x; want it under lease %x", ok, now, lease)
	}
	inst := testInstance()
	inst.Weight = 99
	if err := reg.Announce(t.Context(), inst); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Second, "update", func() bool {
		snapshot, err := seen.load()
		return err == nil && len(snapshot.Instances) == 1 && snapshot.Instances[0].Weight == 99
	})
	if err := reg.Withdraw(t.Context(), "o-1"); err != nil {
		t.Errorf("Withdraw with an expired token: %v", err)
	}
	close(events)
	for e := range events {
		if e, ok := e.(registry.AnnouncementChanged); ok && (e.To == registry.Lost || e.Err != nil) {
			t.Errorf("told %+v, want neither loss nor error", e)
		}
	}
}

// An etcd whose disk is full reads and renews, but writes nothing.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	s := newServer(t, embedded.WithQuota(1<<20))
	client := s.dial(Config{})
	reg, reader, late := s.open(registry.WithTTL(2*time.Second)), s.open(), s.open()
	seen := follow(t, reader)
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 100 {
		if _, err = client.Put(t.Context(), "/fill", strings.Repeat("x", 200<<10)); err != nil {
			break
		}
	}
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("etcd was not filled: %v", err)
	}
	inst := testInstance()
	inst.Weight = 99
	if err := reg.Announce(t.Context(), inst); err != nil {
		t.Fatal(err)
	}
	second := testInstance()
	second.ID, second.Endpoints = "o-2", map[string]string{"grpc": "10.0.0.2:9000"}
	if err := late.Announce(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	for name, reg := range map[string]*registry.Registry{"an update": reg, "a registration": late} {
		if status := reg.Status(); status.Err == nil || !strings.Contains(status.Err.Error(), "etcd has no space left, compact and defragment it") {
			t.Errorf("Status = %+v after %s, want why and what to do", status, name)
		}
	}
	// The lease goes on living.
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		if _, _, ok := key(t, client); !ok || reg.Status().State != registry.Registered {
			t.Fatalf("the key is there: %v, state %q; want it kept", ok, reg.Status().State)
		}
		<-time.After(50 * time.Millisecond)
	}

	head, err := client.Delete(t.Context(), "/fill")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error {
			_, err := client.Compact(t.Context(), head.Header.Revision, clientv3.WithCompactPhysical())
			return err
		},
		func() error { _, err := client.Defragment(t.Context(), s.addr); return err },
		func() error { _, err := client.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	// There is no return to notice, so this is the back-off's 5 s at most.
	within(t, 7*time.Second, "update and registration", func() bool {
		snapshot, _ := seen.load()
		return seen.present("o-1") && seen.present("o-2") && snapshot.Instances[0].Weight == 99 &&
			reg.Status().Err == nil && late.Status().Err == nil
	})
}
