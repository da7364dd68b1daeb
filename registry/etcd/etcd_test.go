package etcd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry"
)

func TestKeyIsUnderALease(t *testing.T) {
	s := newServer(t)
	client := s.dial(Config{})
	reg := Open(client, WithNamespace("/team/a/"), WithRegistry(registry.WithTTL(1500*time.Millisecond)))
	defer reg.Close()
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	const name = "/team/a/services/orders/o-1"
	got, err := client.Get(t.Context(), name)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("get %s: %v, %v; want one key", name, got, err)
	}
	const want = `{"id":"o-1","service":"orders","endpoints":{"grpc":"10.0.0.1:9000"},"weight":10,"state":"up"}`
	if string(got.Kvs[0].Value) != want {
		t.Errorf("value %s, want %s", got.Kvs[0].Value, want)
	}
	lease, err := client.TimeToLive(t.Context(), clientv3.LeaseID(got.Kvs[0].Lease), clientv3.WithAttachedKeys())
	if err != nil {
		t.Fatal(err)
	}
	if lease.GrantedTTL != 2 || len(lease.Keys) != 1 {
		t.Errorf("lease of %d s with %d keys, want 2 s (rounded up) and 1 key", lease.GrantedTTL, len(lease.Keys))
	}

	// Withdrawing leaves neither the key nor the lease.
	if err := reg.Withdraw(t.Context(), "o-1"); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Get(t.Context(), "", clientv3.WithPrefix()); err != nil || len(got.Kvs) > 0 {
		t.Errorf("keys after Withdraw: %v, %v; want none", got, err)
	}
	if got, err := client.Leases(t.Context()); err != nil || len(got.Leases) > 0 {
		t.Errorf("leases after Withdraw: %v, %v; want none", got, err)
	}
}

func TestLeaseIsRenewed(t *testing.T) {
	s := newServer(t)
	client := s.dial(Config{})
	reg := s.open(registry.WithTTL(time.Second))
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	_, lease, _ := key(t, client)
	// Three times the TTL with the same lease: it has been renewed.
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		if _, now, ok := key(t, client); !ok || now != lease {
			t.Fatalf("the key is there: %v, under lease %x; want lease %x all the time", ok, now, lease)
		}
	}
}

func TestCrashRemovesTheKey(t *testing.T) {
	s := newServer(t)
	const ttl = time.Second
	client, err := Dial(Config{Endpoints: []string{s.addr}})
	if err != nil {
		t.Fatal(err)
	}
	reg := Open(client, WithRegistry(registry.WithTTL(ttl)))
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	// Without its client the registry can withdraw nothing, like one whose
	// process was killed.
	client.Close()
	other := s.dial(Config{})
	if _, _, ok := key(t, other); !ok {
		t.Fatal("the key is gone before its lease can have expired")
	}
	within(t, ttl+2*time.Second, "end of the key", func() bool {
		_, _, ok := key(t, other)
		return !ok
	})
	if err := reg.Close(); err == nil {
		t.Error("Close without a client returned no error")
	}
}

func TestEtcdDownAtStart(t *testing.T) {
	s := newServer(t)
	s.stop()
	reg, reader := s.open(), s.open()
	seen := follow(t, reader)
	began := time.Now()
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("Announce took %v where the connection is refused at once", took)
	}
	within(t, 3*time.Second, "error of the watch", func() bool { _, err := seen.load(); return err != nil })
	_, err := seen.load()
	if status := reg.Status(); status.State != registry.Registering || status.Err == nil {
		t.Errorf("Status = %+v, want registering and an error", status)
	}
	for _, err := range []error{err, reg.Status().Err} {
		if want := "etcd at " + s.addr + " does not answer, is it running and reachable from here"; !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want it to contain %q", err, want)
		}
	}
	s.start()
	within(t, 2*time.Second, "registration after the start of etcd", func() bool {
		return reg.Status().State == registry.Registered && seen.has("o-1")
	})
}

// An outage that no lease ends in: the service says at once that it has no hold, and
// is what it was when etcd is back.
func TestShortOutageIsTold(t *testing.T) {
	s := newServer(t)
	reg := s.open() // TTL 10 s
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	before := reg.Status()
	_, lease, _ := key(t, s.dial(Config{}))
	s.stop()
	took := within(t, 2*time.Second, "error", func() bool { return reg.Status().Err != nil })
	if got := reg.Status(); got.State != registry.Registered || !strings.Contains(got.Err.Error(), "does not answer") {
		t.Errorf("Status = %+v %v after the end of etcd, want registered and why it is in doubt", got, took)
	}
	s.start()
	within(t, 3*time.Second, "end of the doubt", func() bool { return reg.Status().Err == nil })
	_, now, _ := key(t, s.dial(Config{}))
	if got := reg.Status(); got.State != before.State || !got.Since.Equal(before.Since) || now != lease {
		t.Errorf("Status = %+v, lease %x; want %+v and %x", got, now, before, lease)
	}
}

func TestEtcdStopsForAWhile(t *testing.T) {
	tests := []struct {
		name string
		wipe bool
	}{
		{"same data", false},
		{"wiped", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			reg, reader, late := s.open(registry.WithTTL(time.Second)), s.open(), s.open()
			if err := reg.Announce(t.Context(), testInstance()); err != nil {
				t.Fatal(err)
			}
			seen := follow(t, reader)
			within(t, 2*time.Second, "first list", func() bool { return seen.has("o-1") })

			s.stop()
			// Longer than the TTL, so that the service knows it has lost the key.
			within(t, 5*time.Second, "loss", func() bool { return reg.Status().State == registry.Lost })
			if snapshot, err := seen.load(); err == nil || len(snapshot.Instances) != 1 {
				t.Errorf("view in the outage: %d instances, error %v; want the last good one and an error", len(snapshot.Instances), err)
			}
			<-time.After(3 * time.Second) // the connection's backoff must not have grown
			if tt.wipe {
				s.dir = t.TempDir()
			}
			s.start()
			within(t, 2*time.Second, "registration after the return of etcd", func() bool {
				return reg.Status().State == registry.Registered && seen.has("o-1")
			})
			// And the view is alive.
			inst := testInstance()
			inst.ID = "o-2"
			if err := late.Announce(t.Context(), inst); err != nil {
				t.Fatal(err)
			}
			within(t, 2*time.Second, "instance announced after the outage", func() bool { return seen.has("o-1") && seen.has("o-2") })
		})
	}
}

// An etcd that is wiped and back before anybody's lease has expired: nobody
// noticed an outage, but nothing is there.
func TestQuickWipe(t *testing.T) {
	s := newServer(t)
	reg, reader := s.open(), s.open() // TTL 10 s
	seen := follow(t, reader)
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Second, "first list", func() bool { return seen.has("o-1") })
	// Push the revision far beyond the one of the new etcd.
	client := s.dial(Config{})
	for range 50 {
		if _, err := client.Put(t.Context(), "/other", "x"); err != nil {
			t.Fatal(err)
		}
	}
	s.stop()
	s.dir = t.TempDir()
	s.start()
	within(t, 3*time.Second, "key in the new etcd", func() bool { _, _, ok := key(t, client); return ok })
	within(t, 3*time.Second, "instance in the view", func() bool {
		snapshot, _ := seen.load()
		return seen.has("o-1") && snapshot.Revision < 50
	})
}

func TestUpdateIsPrompt(t *testing.T) {
	s := newServer(t)
	client := s.dial(Config{})
	reg := s.open()
	inst := testInstance()
	if err := reg.Announce(t.Context(), inst); err != nil {
		t.Fatal(err)
	}
	_, lease, _ := key(t, client)
	inst.State = registry.Draining
	if err := reg.Announce(t.Context(), inst); err != nil {
		t.Fatal(err)
	}
	value, now, _ := key(t, client)
	if !strings.Contains(value, `"state":"draining"`) || now != lease {
		t.Errorf("key after the update: %s under lease %x; want draining under %x", value, now, lease)
	}
}

// A write that keeps our lease looks like ours but for its value.
func TestForeignWriteUnderOurLease(t *testing.T) {
	s := newServer(t)
	client := s.dial(Config{})
	reg := s.open()
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	want, lease, _ := key(t, client)
	if _, err := client.Put(t.Context(), testKey, "x", clientv3.WithLease(lease)); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "own value", func() bool { got, _, _ := key(t, client); return got == want })
	within(t, 5*time.Second, "end of the old lease", func() bool {
		got, err := client.Leases(t.Context())
		return err == nil && len(got.Leases) == 1
	})
	if _, _, ok := key(t, client); !ok {
		t.Error("revoking the old lease took the new key away")
	}
}

func TestWithdrawLeavesWhatIsNotOurs(t *testing.T) {
	s := newServer(t)
	client := s.dial(Config{})
	d := newDriver(client, DefaultNamespace)
	defer d.Close()
	reg, err := d.Register(t.Context(), testInstance(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), testKey, "theirs"); err != nil {
		t.Fatal(err)
	}
	if err := reg.Update(t.Context(), testInstance()); !errors.Is(err, errGone) {
		t.Errorf("Update of a key that is not ours = %v, want errGone", err)
	}
	<-reg.Lost()
	if err := reg.Withdraw(t.Context()); err != nil {
		t.Errorf("Withdraw = %v", err)
	}
	if got, _, _ := key(t, client); got != "theirs" {
		t.Errorf("key after Withdraw = %q, want theirs", got)
	}
}

func TestWatchSurvivesCompaction(t *testing.T) {
	s := newServer(t)
	client := s.dial(Config{})
	reg, reader := s.open(), s.open()
	seen := follow(t, reader)
	inst := testInstance()
	for range 20 {
		inst.Weight++
		if err := reg.Announce(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
	}
	head, err := client.Get(t.Context(), "none")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), head.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	inst.Weight = 77
	if err := reg.Announce(t.Context(), inst); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "change after the compaction", func() bool {
		snapshot, err := seen.load()
		return err == nil && len(snapshot.Instances) == 1 && snapshot.Instances[0].Weight == 77
	})

	// A driver's watch from a revision that is compacted ends with an error.
	changes := client.Watch(t.Context(), testKey, clientv3.WithRev(1))
	if response := <-changes; response.Err() == nil {
		t.Errorf("watch from a compacted revision: %+v, want an error", response)
	}
}

func TestAuthentication(t *testing.T) {
	s := newServer(t)
	ctx := t.Context()
	enableAuth(t, s.dial(Config{}))
	s.stop() // Dial must not need it
	client := s.dial(Config{Username: "root", Password: "secret"})
	wrong := s.dial(Config{Username: "root", Password: "guess"})
	s.start()

	reg := Open(client, WithRegistry(registry.WithTTL(time.Second)))
	defer reg.Close()
	seen := follow(t, reg)
	if err := reg.Announce(ctx, testInstance()); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "registration", func() bool { return seen.has("o-1") })
	// Simple tokens do not survive a restart: the client has to log in again.
	s.stop()
	s.start()
	inst := testInstance()
	inst.Weight = 99
	if err := reg.Announce(ctx, inst); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "update after a restart", func() bool {
		snapshot, err := seen.load()
		return err == nil && len(snapshot.Instances) == 1 && snapshot.Instances[0].Weight == 99
	})

	refused := Open(wrong)
	defer refused.Close()
	if err := refused.Announce(ctx, inst); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "error about the password", func() bool {
		err := refused.Status().Err
		return err != nil && strings.Contains(err.Error(), "authentication failed")
	})
}

func TestDialRefuses(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"no endpoints", Config{}, "no endpoints"},
		{"password in an endpoint", Config{Endpoints: []string{"h:1", "http://u:pwsecret@h:2"}}, "endpoint 2 has a user or a password in it"},
		{"no user", Config{Endpoints: []string{"h:1"}, Password: "p"}, "a password without a username"},
		{"no password", Config{Endpoints: []string{"h:1"}, Username: "u"}, `no password for user "u"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, err := Dial(tt.cfg)
			if err == nil {
				client.Close()
				t.Fatal("Dial returned no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to contain %q", err, tt.want)
			}
		})
	}
}

func TestCloseIsBoundedWhileEtcdIsDown(t *testing.T) {
	s := newServer(t)
	reg := s.open()
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	s.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := reg.Withdraw(ctx, "o-1"); err == nil {
		t.Error("Withdraw without etcd returned no error")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("Withdraw took %v, want no longer than its context", took)
	}
	reg.Close()
	if took := time.Since(began); took > 2*registry.OperationTimeout+time.Second {
		t.Errorf("Close took %v", took)
	}
	s.start() // for the cleanup
}
