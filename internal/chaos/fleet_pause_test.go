//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
)

// entry is an instance as it stands in etcd.
type entry struct {
	id      string
	lease   int64
	written int64 // the revision
}

// prefix is below which key the fleet's instances of a service are in etcd.
func (w *fleetWorld) prefix(service string) string {
	return w.namespace() + "/services/" + service + "/"
}

// entries returns what is in etcd of the fleet, by the address of the instance.
func (w *fleetWorld) entries(admin *clientv3.Client) (map[string][]entry, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
	defer cancel()
	response, err := admin.Get(ctx, w.prefix(workService), clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	all := map[string][]entry{}
	for _, kv := range response.Kvs {
		inst, err := registry.Decode(workService, strings.TrimPrefix(string(kv.GetKey()), w.prefix(workService)), kv.GetValue())
		if err != nil {
			return nil, err
		}
		addr := inst.Endpoints["grpc"]
		all[addr] = append(all[addr], entry{inst.ID, kv.GetLease(), kv.GetModRevision()})
	}
	return all, nil
}

// mustEntries is entries, where etcd has to answer.
func (w *fleetWorld) mustEntries(admin *clientv3.Client) map[string][]entry {
	w.t.Helper()
	all, err := w.entries(admin)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// testFleetUnleased is F25: one instance is stopped for longer than its lease lives.
func testFleetUnleased(t *testing.T, g *fleetGroup) {
	// A client notices that somebody is silent when a call has waited for long enough.
	// Those of every other process wait for less than their deadline, and so have the
	// time to ask somebody else.
	patient := func(client int) bool { return client/fleetClients%2 == 0 }
	const brief = 100 * time.Millisecond
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, rate: silenceRate, tune: func(process int, s *callerSpec) {
		s.NonIdempotent = 0.5
		if !patient(process * fleetClients) {
			s.AttemptTimeout = brief
		}
	}})
	admin := dial(t, etcd.Config{Endpoints: []string{g.etcd}})
	open := w.census()
	victim := w.workers[3]
	before := w.mustEntries(admin)[victim.addr]
	if len(before) != 1 {
		t.Fatalf("the instance is %d times in etcd: %v", len(before), before)
	}
	length := w.ttl + 5*time.Second
	stopped := time.Now()
	victim.p.signal(syscall.SIGSTOP)
	pass(t, length)
	w.check(len(w.mustEntries(admin)[victim.addr]) == 0, "its lease has expired while it was stopped", "%d entries", len(w.mustEntries(admin)[victim.addr]))
	w.judgeSilence(victim, stopped, time.Now())

	continued := time.Now()
	victim.p.signal(syscall.SIGCONT)
	var after []entry
	back := eventually(t, 20*time.Second, "its entry is back", func() error {
		all, err := w.entries(admin)
		if after = all[victim.addr]; err == nil && len(after) == 0 {
			err = errors.New("it is not in etcd")
		}
		return err
	})
	w.timed(back <= time.Second, "its entry is back within 1 s", "after %s", show(back))
	w.check(len(after) == 1 && after[0].id == before[0].id && after[0].lease != before[0].lease && after[0].lease != 0, "with a new lease, and no other entry of it",
		"lease %x, before %x; %d entries of it", after[0].lease, before[0].lease, len(after))
	// For longer than a lease that nobody renews lives: an entry under the old one, or
	// a second one under the new, would go or come in that time.
	missing, wrong := 0, 0
	for until := time.Now().Add(w.ttl + time.Second); time.Now().Before(until); pass(t, 50*time.Millisecond) {
		all, err := w.entries(admin)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(all[victim.addr], after) {
			missing++
		}
		if len(all) != len(w.workers) {
			wrong++
		}
	}
	w.check(missing == 0 && wrong == 0, "it stays as it is for longer than a lease lives, and so do all others",
		"looked at it every 50 ms: %d times it was gone or changed, %d times there were others than %d instances", missing, wrong, len(w.workers))
	end := time.Now()
	idempotent := w.ledger.made(stopped.Add(-time.Second), end).idempotent()
	short := idempotent.where(func(l *line) bool { return !patient(l.Client) })
	w.outcome(len(short.lost()) <= w.mayLose(0), fmt.Sprintf("clients whose attempts wait %v lose no idempotent call at all", brief), "%d of %d", len(short.lost()), len(short))
	later := w.ledger.made(continued.Add(workDeadline), end)
	w.outcome(len(later.lost()) <= w.mayLose(0), "nobody loses a call after it has gone on", "%d of %d", len(later.lost()), len(later))

	// Whoever has lost and got a lease must withdraw under the one that it has now.
	victim.p.terminate()
	left := w.mustEntries(admin)
	w.check(len(left[victim.addr]) == 0 && len(left) == len(w.workers)-1, "when it stops it leaves no entry behind", "%d of it, %d of others", len(left[victim.addr]), len(left)-len(left[victim.addr]))
	w.workers = slices.Delete(slices.Clone(w.workers), 3, 4)
	open.conns -= len(w.callers) * fleetClients
	w.leavesNothing(open)
	w.finish(fleetRow{id: "F25", what: fmt.Sprintf("SIGSTOP one instance for its TTL + 5 s (%v), then SIGCONT, and SIGTERM at the end; half of the calls idempotent", length)})
}
