//go:build linux

package chaos_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestChaos is the whole suite. What measures CPU or the speed of many runs
// first and alone, the rest side by side.
func TestChaos(t *testing.T) {
	for _, s := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"mass-registration", testMassRegistration},
		{"churn", testChurn},
	} {
		t.Run(s.name, s.run)
	}
	t.Run("faults", func(t *testing.T) {
		for _, s := range []struct {
			name string
			run  func(*testing.T)
		}{
			{"killed-20s", func(t *testing.T) { testKilled(t, pick(20*time.Second, time.Second)) }},
			{"killed-60s", func(t *testing.T) { testKilled(t, pick(60*time.Second, 4*time.Second)) }},
			{"killed-120s", func(t *testing.T) { testKilled(t, pick(120*time.Second, 8*time.Second)) }},
			{"stopped", testStopped},
			{"wiped", testWiped},
			{"restored", testRestored},
			{"compacted", testCompacted},
			{"emptied", testEmptied},
			{"garbage", testGarbage},
			{"partition", testPartition},
			{"leader-killed", testLeaderKilled},
			{"token-expired", testTokenExpired},
			{"no-space", testNoSpace},
			{"service-paused", testServicePaused},
			{"start-without-etcd", testStartWithoutEtcd},
			{"killed-together", testKilledTogether},
			{"rolled-unseen", testRolledUnseen},
			{"load", testLoad},
		} {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.run(t)
			})
		}
	})
	if *write && !t.Failed() {
		writeReport(t)
	}
}

func testKilled(t *testing.T, outage time.Duration) {
	n := startEtcd(t, newHost())
	w := newWorld(t, []string{n.endpoint()})
	n.process.kill()
	pass(t, outage)
	answered := n.restart()
	w.finish(row{scenario: fmt.Sprintf("killed %v, same data", outage), back: w.keysBack(answered), change: w.changeSeen()})
}

// testStopped freezes etcd: its connections stay open and carry nothing.
func testStopped(t *testing.T) {
	outage := pick(40*time.Second, 6*time.Second)
	n := startEtcd(t, newHost())
	w := newWorld(t, []string{n.endpoint()})
	n.process.signal(syscall.SIGSTOP)
	pass(t, outage)
	n.process.signal(syscall.SIGCONT)
	w.finish(row{scenario: fmt.Sprintf("SIGSTOP %v", outage), back: w.keysBack(time.Now()), change: w.changeSeen()})
}

func testWiped(t *testing.T) {
	n := startEtcd(t, newHost())
	w := newWorld(t, []string{n.endpoint()})
	// Get the revision far away from that of the new etcd.
	for i := range 100 {
		if _, err := w.admin.Put(t.Context(), "/other/key", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	n.process.kill()
	n.wipe()
	answered := n.restart()
	w.finish(row{scenario: "data wiped", back: w.keysBack(answered), change: w.changeSeen()})
}

// testRestored puts an etcd back in time, to before one instance came and
// another one went.
func testRestored(t *testing.T) {
	n := startEtcd(t, newHost())
	w := newWorld(t, []string{n.endpoint()})
	n.process.kill()
	older := n.copyData()
	w.keysBack(n.restart())

	newcomer := w.startService()
	id := w.idsOf([]*process{newcomer})[0]
	gone := w.ids[2]
	eventually(t, 20*time.Second, "the client sees the newcomer", func() error { return w.watcher.has(id) })
	w.watcher.expect(w.ids[0], w.ids[1], id)
	w.services[2].terminate()
	w.ids = []string{w.ids[0], w.ids[1], id}
	eventually(t, 20*time.Second, "the client has seen the change", func() error { return w.watcher.sees(w.ids...) })
	for i := range 100 {
		if _, err := w.admin.Put(t.Context(), "/other/key", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}

	n.process.kill()
	n.restore(older)
	answered := n.restart()
	back := w.keysBack(answered)
	// Its lease was restored with it, and nobody renews that.
	eventually(t, 2*w.ttl+10*time.Second, "the entry that only the copy had is gone", func() error {
		return w.watcher.sees(w.ids...)
	})
	t.Logf("%s is gone", gone)
	w.finish(row{scenario: "older data restored", back: back, change: w.changeSeen()})
}

// testCompacted takes the client's connection away while history moves on and
// is then forgotten.
func testCompacted(t *testing.T) {
	n := startEtcd(t, newHost())
	p := startProxy(t, n.endpoint())
	w := newWorld(t, []string{n.endpoint()}, func(o *worldOptions) { o.seen = []string{p.addr()} })
	p.block()
	newcomer := w.startService()
	id := w.idsOf([]*process{newcomer})[0]
	for i := range 1000 {
		if _, err := w.admin.Put(t.Context(), echoPrefix+"noise", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	last, err := w.admin.Delete(t.Context(), echoPrefix+"noise")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin.Compact(t.Context(), last.Header.GetRevision(), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	pass(t, pick(120*time.Second, 3*time.Second))
	p.unblock()
	took := eventually(t, 20*time.Second, "the client's list is right", func() error { return w.watcher.sees(append(w.ids, id)...) })
	if took > patience(backWithin) {
		t.Errorf("the client's list was right after %v, want at most %v", took, backWithin)
	}
	w.finish(row{scenario: fmt.Sprintf("watch lost for %v, 1000 puts, compacted", pick(120*time.Second, 3*time.Second)), back: never, change: took})
}

func testEmptied(t *testing.T) {
	n := startEtcd(t, newHost())
	w := newWorld(t, []string{n.endpoint()})
	begun := time.Now()
	if _, err := w.admin.Delete(t.Context(), servicesPrefix, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	w.finish(row{scenario: "all keys deleted by hand", back: w.keysBack(begun), change: w.changeSeen()})
}

func testGarbage(t *testing.T) {
	n := startEtcd(t, newHost())
	w := newWorld(t, []string{n.endpoint()})
	entries, err := w.entries()
	if err != nil {
		t.Fatal(err)
	}
	taken := entries[w.services[0].addr()].Endpoints["grpc"]
	begun := time.Now()
	for key, value := range map[string]string{
		echoPrefix + "bad-json":        `{"id":`,
		echoPrefix + "port-zero":       `{"id":"port-zero","service":"echo","endpoints":{"grpc":"127.0.0.1:0"}}`,
		echoPrefix + "other-id":        `{"id":"other","service":"echo","endpoints":{"grpc":"127.0.0.1:1"}}`,
		echoPrefix + "too-large":       `{"id":"too-large","metadata":{"x":"` + strings.Repeat("x", 1<<20) + `"}}`,
		echoPrefix + "deep/er":         `{}`,
		echoPrefix + "nothing":         ``,
		echoPrefix + "binary":          "\x00\xff\xfe",
		echoPrefix + "same-address":    `{"id":"same-address","service":"echo","endpoints":{"grpc":"` + taken + `"}}`,
		echoPrefix + w.ids[1]:          `garbage where an instance was`,
		servicesPrefix + "x/y":         `[]`,
		servicesPrefix + echoService:   `a value at the prefix itself`,
		servicesPrefix + "no-instance": `{}`,
	} {
		if _, err := w.admin.Put(t.Context(), key, value); err != nil {
			t.Fatalf("put %s: %v", key, err)
		}
	}
	back := w.keysBack(begun)
	eventually(t, 5*time.Second, "the bad entries are counted", func() error {
		w.watcher.mu.Lock()
		defer w.watcher.mu.Unlock()
		if w.watcher.skipped != 7 {
			return fmt.Errorf("%d entries are skipped, want 7", w.watcher.skipped)
		}
		return nil
	})
	w.finish(row{scenario: "garbage among the values", back: back, change: w.changeSeen()})
}

func testLeaderKilled(t *testing.T) {
	nodes := startCluster(t)
	var endpoints []string
	for _, n := range nodes {
		endpoints = append(endpoints, n.endpoint())
	}
	w := newWorld(t, endpoints)
	leader := leaderOf(t, w, nodes)
	begun := time.Now()
	leader.process.kill()
	back := w.keysBack(begun)
	leader.restart()
	w.finish(row{scenario: "leader of three killed", back: back, change: w.changeSeen()})
}

func leaderOf(t *testing.T, w *world, nodes []*node) *node {
	t.Helper()
	for _, n := range nodes {
		s, err := w.admin.Status(t.Context(), n.endpoint())
		if err != nil {
			t.Fatal(err)
		}
		if s.Leader == s.Header.GetMemberId() {
			return n
		}
	}
	t.Fatal("the cluster has no leader")
	return nil
}

// testServicePaused freezes an instance for longer than its lease lives.
func testServicePaused(t *testing.T) {
	n := startEtcd(t, newHost())
	w := newWorld(t, []string{n.endpoint()})
	// It answers nothing while it is stopped, so it may leave the list.
	w.watcher.expect(w.ids[1], w.ids[2])
	paused := w.services[0]
	paused.signal(syscall.SIGSTOP)
	pass(t, w.ttl+5*time.Second)
	if entries, err := w.entries(); err != nil || entries[paused.addr()].ID != "" {
		t.Errorf("its lease has not expired while it was stopped: %v", err)
	}
	paused.signal(syscall.SIGCONT)
	continued := time.Now()
	back := w.keysBack(continued)
	answered := w.load.answered(w.ids[0])
	eventually(t, 30*time.Second, "it gets calls again", func() error {
		if w.load.answered(w.ids[0]) <= answered {
			return errors.New("it has answered none")
		}
		return nil
	})
	// What was in flight to it, and what went to it until that was noticed, is
	// lost: the calls may not be repeated.
	w.finish(row{scenario: fmt.Sprintf("service stopped for its TTL + 5 s (%v)", w.ttl+5*time.Second), back: back, limit: time.Second, change: never, mayLose: 60})
}
