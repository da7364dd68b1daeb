//go:build linux

package chaos_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"plinth.internal/registry"
)

// Sizes of a fleet, but where a scenario says otherwise.
const (
	fleetServers = 10
	fleetCallers = 4 // processes
	fleetClients = 5 // in each of them
)

// fleetWorld is what a scenario plays with: instances, and clients in processes
// of their own that call them.
type fleetWorld struct {
	t       *testing.T
	spec    fleetSpec
	ttl     time.Duration
	workers []*instance
	tiers   [][]*instance // of the services behind them

	transport string // one of those of the callers
	callers   []*process
	ledger    ledger
	begun     time.Time
	ended     time.Time // of the calls; zero while they go on
	checks    []fleetCheck
}

// fleetSpec says how a fleet differs from the usual one.
type fleetSpec struct {
	group   *fleetGroup
	servers int
	foreign []int  // which servers have nothing of Plinth
	etcd    string // where they register; "" = their addresses are given
	work    workSpec
	tiers   []workSpec                 // services behind the one that is called, the next one first
	enter   func(i *instance)          // enters an instance in etcd in place of the instance itself
	program string                     // another build of the test binary, for all processes
	env     func(role string) []string // of processes of a role
	wires   bool                       // a proxy in front of each server; not with etcd
	rate    float64                    // calls per second of all clients, 0 = the usual
	quiet   bool                       // there are no clients: the test makes calls itself
	ready   func(w *fleetWorld) error
	tune    func(process int, s *callerSpec)
}

// instance is one server of a fleet.
type instance struct {
	w       *fleetWorld
	host    string
	addr    string // where it listens
	seen    string // where clients find it
	foreign bool
	wire    *wire
	work    workSpec
	p       *process

	mu     sync.Mutex
	counts []counts
	works  []line
}

// program is the file that the processes run.
func (w *fleetWorld) program() string { return cmp.Or(w.spec.program, os.Args[0]) }

// fleetRate is how many calls a second all clients together make: what two
// cores carry beside the other scenarios.
func fleetRate() float64 {
	if *full {
		return 400
	}
	return 200
}

// warmUp is how long nothing happens to a fleet at first.
func warmUp() time.Duration { return pick(10*time.Second, 3*time.Second) }

func newFleetWorld(t *testing.T, spec fleetSpec) *fleetWorld {
	t.Helper()
	if spec.servers == 0 {
		spec.servers = fleetServers
	}
	if spec.rate == 0 {
		spec.rate = fleetRate()
	}
	w := &fleetWorld{t: t, spec: spec, ttl: pick(registry.DefaultTTL, 2*time.Second), transport: spec.group.transport}
	if spec.env == nil {
		w.spec.env = func(string) []string { return nil }
	}
	for i := range spec.servers {
		w.workers = append(w.workers, w.newInstance(slices.Contains(spec.foreign, i)))
	}
	all := slices.Clone(w.workers)
	for _, tier := range spec.tiers {
		var of []*instance
		for range spec.servers {
			i := w.newInstance(false)
			i.work = tier
			of = append(of, i)
		}
		w.tiers, all = append(w.tiers, of), append(all, of...)
	}
	for _, i := range all {
		i.start()
	}
	for _, i := range all {
		i.listens()
	}
	if spec.quiet {
		spec.group.started()
		w.begun = time.Now()
		return w
	}
	for i := range fleetCallers {
		w.startCallers(i)
	}
	ready := spec.ready
	switch {
	case ready != nil:
	case w.transport == overGRPC:
		ready = (*fleetWorld).connected
	default: // they connect with their calls
		ready = (*fleetWorld).met
	}
	eventually(t, 90*time.Second, "the clients are ready", func() error { return ready(w) })
	spec.group.started()
	w.begun = time.Now()
	pass(t, warmUp())
	return w
}

// connected returns an error until every client is connected to every instance.
func (w *fleetWorld) connected() error {
	want := len(w.workers) * len(w.callers) * fleetClients
	if have := w.ledger.open(""); have != want {
		return fmt.Errorf("%d connections, want %d", have, want)
	}
	return nil
}

// met returns an error until every client has called every instance.
func (w *fleetWorld) met() error {
	type pair struct {
		client int
		addr   string
	}
	pairs := map[pair]bool{}
	for _, l := range w.ledger.connected(true, time.Time{}, time.Now()) {
		pairs[pair{l.Client, l.Addr}] = true
	}
	if want := len(w.workers) * len(w.callers) * fleetClients; len(pairs) != want {
		return fmt.Errorf("%d pairs of a client and an instance, want %d", len(pairs), want)
	}
	return nil
}

func (w *fleetWorld) newInstance(foreign bool) *instance {
	i := &instance{w: w, host: newHost(), foreign: foreign, work: w.spec.work}
	i.addr = i.at(w.transport)
	i.seen = i.addr
	if w.spec.wires {
		i.wire = startWire(w.t, i.addr)
		i.seen = i.wire.addr()
	}
	return i
}

// start starts the instance, or starts it again in the same place.
func (i *instance) start() {
	i.w.t.Helper()
	out := &stream{bad: func(string) {}, take: func(l line) {
		i.mu.Lock()
		defer i.mu.Unlock()
		switch l.Kind {
		case lineCounts:
			i.counts = append(i.counts, *l.Counts)
		case lineWork:
			i.works = append(i.works, l)
		}
	}}
	if i.foreign {
		i.p = launchTo(i.w.t, out, roleForeign, "", nil, i.addr)
		return
	}
	args := []string{"--server.grpc.addr=" + i.at(overGRPC), "--server.http.addr=" + i.at(overHTTP), "--server.admin.addr=", "--telemetry.log.format=json"}
	if i.w.spec.etcd != "" && i.w.spec.enter == nil {
		args = append(args, "--registry.endpoints="+i.w.spec.etcd, "--registry.namespace="+i.w.namespace(), "--registry.ttl="+i.w.ttl.String())
	}
	env := i.w.spec.env(roleWorker)
	if i.work != (workSpec{}) {
		spec, err := json.Marshal(i.work)
		if err != nil {
			i.w.t.Fatal(err)
		}
		env = append(env, workVariable+"="+string(spec))
	}
	if i.w.transport == overNetRPC {
		spec, err := json.Marshal(netRPCSpec{Addr: i.addr, Etcd: i.w.spec.etcd, Namespace: i.w.namespace(), TTL: i.w.ttl})
		if err != nil {
			i.w.t.Fatal(err)
		}
		env = append(env, netRPCVariable+"="+string(spec))
	}
	i.p = launchProgram(i.w.t, i.w.program(), out, roleWorker, "", env, args...)
	if i.w.spec.enter != nil {
		i.w.spec.enter(i)
	}
}

// at is where the instance listens for a transport, if it does.
func (i *instance) at(transport string) string { return i.host + ":" + workPorts[transport] }

// listens waits until the instance does.
func (i *instance) listens() {
	i.w.t.Helper()
	eventually(i.w.t, 20*time.Second, "an instance listens", func() error {
		conn, err := net.DialTimeout("tcp", i.addr, time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// count asks the instance what it has counted so far.
func (i *instance) count() counts {
	i.w.t.Helper()
	i.mu.Lock()
	before := len(i.counts)
	i.mu.Unlock()
	i.p.order("count")
	var c counts
	eventually(i.w.t, 10*time.Second, "an instance tells its counts", func() error {
		i.mu.Lock()
		defer i.mu.Unlock()
		if len(i.counts) == before {
			return errors.New("it has not answered")
		}
		c = i.counts[before]
		return nil
	})
	return c
}

// namespace is the fleet's own part of the etcd that all share.
func (w *fleetWorld) namespace() string {
	return "/" + strings.ToLower(strings.NewReplacer("/", "-", " ", "-").Replace(w.t.Name()))
}

func (w *fleetWorld) startCallers(i int) {
	w.t.Helper()
	clients := float64(fleetCallers * fleetClients)
	spec := callerSpec{Etcd: w.spec.etcd, Namespace: w.namespace(), Clients: fleetClients, Rate: w.spec.rate / clients, Transport: w.transport}
	if w.spec.etcd == "" {
		spec.Static = w.seen()
	}
	if w.spec.tune != nil {
		w.spec.tune(i, &spec)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	w.callers = append(w.callers, launchProgram(w.t, w.program(), w.ledger.from(i, spec.Clients), roleCallers, "", w.spec.env(roleCallers), string(data)))
}

// seen returns the addresses of the instances as clients know them.
func (w *fleetWorld) seen() []string {
	var addrs []string
	for _, i := range w.workers {
		addrs = append(addrs, i.seen)
	}
	return addrs
}

// everybody gives an order to all processes of callers.
func (w *fleetWorld) everybody(order string) {
	w.t.Helper()
	for _, p := range w.callers {
		p.order(order)
	}
}

// stop ends the calls and waits for those in flight; the first time.
func (w *fleetWorld) stop() {
	w.t.Helper()
	if !w.ended.IsZero() {
		return
	}
	w.ended = time.Now()
	w.everybody("stop")
	eventually(w.t, 10*time.Second, "all calls have ended", func() error {
		w.ledger.mu.Lock()
		defer w.ledger.mu.Unlock()
		if w.ledger.idle != len(w.callers) {
			return fmt.Errorf("in %d of %d processes", w.ledger.idle, len(w.callers))
		}
		return nil
	})
}

// all returns every call that was made since the fleet was ready.
func (w *fleetWorld) all() history { return w.ledger.made(w.begun, time.Now()) }

// since returns the calls made from a moment on.
func (w *fleetWorld) since(from time.Time) history { return w.ledger.made(from, time.Now()) }

// baseline returns the calls of the undisturbed time before a moment.
func (w *fleetWorld) baseline(until time.Time) history { return w.ledger.made(w.begun, until) }

// check holds the outcome to a criterion and notes what was measured.
func (w *fleetWorld) check(ok bool, criterion, measured string, args ...any) {
	w.t.Helper()
	measured = fmt.Sprintf(measured, args...)
	w.checks = append(w.checks, fleetCheck{criterion: criterion, measured: measured, ok: ok})
	if !ok {
		w.t.Errorf("%s: %s", criterion, measured)
		return
	}
	w.t.Logf("%s: %s", criterion, measured)
}

// moot notes what was measured where a transport cannot meet a criterion.
func (w *fleetWorld) moot(why, criterion, measured string, args ...any) {
	w.t.Helper()
	measured = fmt.Sprintf(measured, args...)
	w.checks = append(w.checks, fleetCheck{criterion: criterion + " (" + why + ")", measured: measured, ok: true, moot: true})
	w.t.Logf("not judged: %s: %s", criterion, measured)
}

// outcome is check for what becomes of calls. Where the processors were scarce, calls
// came too late, and that is a failure like any other: it is retried, charged, counted
// and ejected for, and says nothing about the fault.
func (w *fleetWorld) outcome(ok bool, criterion, measured string, args ...any) {
	w.t.Helper()
	w.unless(w.starved(), ok, criterion, measured, args...)
}

// timed is outcome for what the race detector distorts as well: times, and what
// depends on them.
func (w *fleetWorld) timed(ok bool, criterion, measured string, args ...any) {
	w.t.Helper()
	why := w.starved()
	if raced {
		why = "with the race detector"
	}
	w.unless(why, ok, criterion, measured, args...)
}

// unless is check where there is no reason not to judge.
func (w *fleetWorld) unless(why string, ok bool, criterion, measured string, args ...any) {
	w.t.Helper()
	if why != "" && !ok {
		w.t.Logf("not judged %s: %s: %s", why, criterion, fmt.Sprintf(measured, args...))
		return
	}
	w.check(ok, criterion, measured, args...)
}

// starved says why what depends on the processors is not judged now, "" where it is.
func (w *fleetWorld) starved() string {
	if w.spec.group.starved.since(w.begun) {
		return "while the processors are scarce"
	}
	return ""
}

// mayLose returns how many calls may be lost where n may: with the race detector
// half a second without the CPU is a call that timed out.
func (w *fleetWorld) mayLose(n int) int {
	if raced {
		n += len(w.all()) / 20
	}
	return n
}

// finish ends the calls and notes what every run records.
func (w *fleetWorld) finish(row fleetRow) {
	w.t.Helper()
	w.stop()
	row.checks, row.transport = w.checks, w.transport
	calls := w.all()
	if row.side != nil {
		row.side.conclude(w, calls)
		w.t.Logf("%s over %s: %s (%d sick and %d well ones, by %d of %d clients), share %.3f, back %v", row.side.fault, named(w.transport), row.side.verdict(), len(row.side.ejected), len(row.side.well), row.side.by, len(w.callers)*fleetClients, row.side.share, row.side.back)
	}
	row.calls, row.lost, row.attempts, row.codes = len(calls), len(calls.lost()), calls.attempts(), calls.codes()
	row.goroutines[0], row.conns[0] = w.ledger.gauge(w.begun.Add(warmUp()))
	row.goroutines[1], row.conns[1] = w.ledger.gauge(w.ended)
	row.p50, row.p99 = calls.p(0.5), calls.p(0.99)
	w.t.Logf("%s: %d calls, %d lost, %.3f attempts a call, p50 %v, p99 %v, %s; goroutines %v, connections %v", row.id, row.calls, row.lost, row.attempts, row.p50, row.p99, row.codes, row.goroutines, row.conns)
	if len(calls) < 50 {
		w.t.Errorf("only %d calls were made, which shows nothing", len(calls))
	}
	for _, text := range w.ledger.broken {
		w.t.Errorf("callers: %s", text)
	}
	if w.t.Failed() {
		w.t.Logf("lost:\n%s", calls.lost().sample(w.begun))
	}
	path := filepath.Join(w.t.ArtifactDir(), "timeline.csv")
	if err := os.WriteFile(path, []byte(w.ledger.timeline(w.begun, w.ended, w.seen())), 0o644); err != nil {
		w.t.Error(err)
	}
	recordFleet(row)
}
