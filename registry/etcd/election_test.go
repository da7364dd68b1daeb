package etcd

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry"
)

const testElection = "orders/reports"

// elector returns an elector with a client of its own, both closed at the end of
// the test.
func (s *server) elector(ttl time.Duration) *Elector {
	s.t.Helper()
	e := NewElector(s.dial(Config{}), WithElectionTTL(ttl))
	s.t.Cleanup(func() { e.Close() })
	return e
}

// campaign stands until it leads, whatever happens to etcd.
func campaign(ctx context.Context, e *Elector, candidate string) registry.Leadership {
	for ctx.Err() == nil {
		if l, err := e.Campaign(ctx, testElection, candidate); err == nil {
			return l
		}
		<-time.After(50 * time.Millisecond)
	}
	return nil
}

func candidates(t *testing.T, client *clientv3.Client) []string {
	t.Helper()
	response, err := client.Get(t.Context(), electionPrefix(DefaultNamespace, testElection), clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, kv := range response.Kvs {
		out = append(out, string(kv.Value))
	}
	return out
}

// One leads, the next one leads when it resigns, in the order in which they have
// stood, and the fence grows.
func TestElectionHandOver(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	client := s.dial(Config{})
	first := campaign(t.Context(), s.elector(0), "a")
	type result struct {
		leadership registry.Leadership
		at         time.Time
	}
	others := map[string]chan result{}
	for i, name := range []string{"b", "c"} {
		others[name] = make(chan result, 1)
		e := s.elector(0)
		go func() {
			l := campaign(t.Context(), e, name)
			others[name] <- result{l, time.Now()}
		}()
		within(t, 5*time.Second, "candidate "+name, func() bool { return len(candidates(t, client)) == i+2 })
	}
	fence, leader := first.Fence(), first
	for _, name := range []string{"b", "c"} {
		if n := len(others["b"]) + len(others["c"]); n != 0 {
			t.Fatalf("%d others lead beside the leader", n)
		}
		began := time.Now()
		if err := leader.Resign(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case r := <-others[name]:
			t.Logf("%s leads %v after the resignation began", name, r.at.Sub(began))
			if r.at.Sub(began) > time.Second {
				t.Errorf("the hand-over to %s took %v", name, r.at.Sub(began))
			}
			leader = r.leadership
		case <-time.After(5 * time.Second):
			t.Fatalf("%s does not lead, candidates %q", name, candidates(t, client))
		}
		if leader.Fence() <= fence {
			t.Errorf("the fence of %s is %d, and was %d before", name, leader.Fence(), fence)
		}
		fence = leader.Fence()
	}
	if err := leader.Resign(t.Context()); err != nil {
		t.Error(err)
	}
	if left := candidates(t, client); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A candidate that gives up while it waits leaves nothing behind, and an election
// whose name begins with that of another one is not part of it.
func TestElectionWaiting(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	client := s.dial(Config{})
	e := s.elector(0)
	nested, err := e.Campaign(t.Context(), testElection+"/weekly", "x")
	if err != nil {
		t.Fatal(err)
	}
	leader := campaign(t.Context(), e, "a")
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := e.Campaign(ctx, testElection, "b")
		ended <- err
	}()
	within(t, 5*time.Second, "candidate", func() bool { return len(candidates(t, client)) == 3 })
	cancel(enough)
	if err := <-ended; !errors.Is(err, enough) {
		t.Errorf("err = %v, want the cause", err)
	}
	if left := candidates(t, client); len(left) != 2 || leader.Err() != nil || nested.Err() != nil {
		t.Errorf("left: %q, leaders' errors %v, %v", left, leader.Err(), nested.Err())
	}
	if err := errors.Join(leader.Resign(t.Context()), nested.Resign(t.Context())); err != nil {
		t.Error(err)
	}
}

// Whoever takes the key away takes the leadership away, at once.
func TestElectionLost(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(t *testing.T, c *candidacy) error{
		"deleted": func(t *testing.T, c *candidacy) error {
			_, err := c.driver.client.Delete(t.Context(), c.key)
			return err
		},
		"revoked": func(t *testing.T, c *candidacy) error {
			_, err := c.driver.client.Revoke(t.Context(), c.lease)
			return err
		},
		"closed": func(_ *testing.T, c *candidacy) error {
			c.driver.cancel()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			leader := campaign(t.Context(), s.elector(0), "a")
			if err := take(t, leader.(*candidacy)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			select {
			case <-leader.Lost():
				t.Logf("noticed after %v: %v", time.Since(began), leader.Err())
			case <-time.After(2 * time.Second):
				t.Error("it has not noticed")
			}
			_ = leader.Resign(t.Context()) // the elector may be closed
		})
	}
}

// A leader that etcd does not answer stops before anybody else can lead, and
// stands again for as long as it takes.
func TestElectionWithoutEtcd(t *testing.T) {
	t.Parallel()
	const ttl = 2 * time.Second
	s := newServer(t)
	e := s.elector(ttl)
	leader := campaign(t.Context(), e, "a")
	fence := leader.Fence()
	<-time.After(ttl) // renewals have come and gone
	if leader.Err() != nil {
		t.Fatalf("lost while all was well: %v", leader.Err())
	}
	began := time.Now()
	s.stop()
	select {
	case <-leader.Lost():
	case <-time.After(ttl):
		t.Fatal("it leads although its lease may have expired")
	}
	took := time.Since(began)
	t.Logf("lost %v after etcd was gone: %v", took, leader.Err())
	if took > ttl/2+100*time.Millisecond {
		t.Errorf("lost after %v, want half of %v at the latest", took, ttl)
	}
	if err := leader.Resign(t.Context()); err == nil {
		t.Error("resigned without etcd")
	}
	if _, err := e.Campaign(t.Context(), testElection, "a"); err == nil || !strings.Contains(err.Error(), "etcd at") {
		t.Errorf("stood without etcd: %v", err)
	}
	s.start()
	began = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	leader = campaign(ctx, e, "a")
	if leader == nil {
		t.Fatal("it never leads again")
	}
	t.Logf("leads again %v after etcd was back", time.Since(began))
	if leader.Fence() <= fence {
		t.Errorf("the fence is %d and was %d", leader.Fence(), fence)
	}
	if err := leader.Resign(t.Context()); err != nil {
		t.Error(err)
	}
}

// Many candidates that resign, die and lose their keys never lead together.
func TestElectionNeverTwo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var leading, terms atomic.Int64
	var fence atomic.Int64
	var wg sync.WaitGroup
	for i := range 5 {
		e := s.elector(registry.MinTTL)
		wg.Go(func() {
			for term := 0; ctx.Err() == nil; term++ {
				l := campaign(ctx, e, strconv.Itoa(i))
				if l == nil {
					return
				}
				terms.Add(1)
				if n := leading.Add(1); n != 1 {
					t.Errorf("%d lead together", n)
				}
				if last := fence.Swap(l.Fence()); last >= l.Fence() {
					t.Errorf("fence %d after %d", l.Fence(), last)
				}
				select {
				case <-l.Lost():
				case <-time.After(5 * time.Millisecond):
				}
				leading.Add(-1)
				if term%10 == 9 { // it dies: its key goes with the lease
					l.(*candidacy).stop()
					<-l.(*candidacy).done
					continue
				}
				if err := l.Resign(context.WithoutCancel(ctx)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d terms", terms.Load())
	if terms.Load() < 20 {
		t.Errorf("only %d terms in 5 s", terms.Load())
	}
}

// A leader that is cut off from etcd, which the next one is not, has half a TTL to
// end its work.
func TestElectionCutOff(t *testing.T) {
	t.Parallel()
	const ttl = 4 * time.Second
	s := newServer(t)
	hole := newValve(t, s.addr)
	client, err := Dial(Config{Endpoints: []string{hole.listener.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	cutOff := NewElector(client, WithElectionTTL(ttl))
	t.Cleanup(func() { cutOff.Close() })
	leader := campaign(t.Context(), cutOff, "a")
	next := make(chan time.Time, 1)
	e := s.elector(ttl)
	var second registry.Leadership
	go func() {
		second = campaign(t.Context(), e, "b")
		next <- time.Now()
	}()
	outside := s.dial(Config{})
	within(t, 5*time.Second, "candidate", func() bool { return len(candidates(t, outside)) == 2 })
	hole.turn(false)
	<-leader.Lost()
	lost := time.Now()
	began := <-next
	t.Logf("the next one led %v after the loss", began.Sub(lost))
	if spare := began.Sub(lost); spare < ttl/2-100*time.Millisecond {
		t.Errorf("the next one led %v after the loss, want at least %v", spare, ttl/2)
	}
	hole.turn(true)
	if err := second.Resign(t.Context()); err != nil {
		t.Error(err)
	}
	_ = leader.Resign(t.Context()) // its lease has expired
}
