//go:build linux

package chaos_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry/etcd"
)

// A machine's clock cannot be stepped without everybody on it noticing. But all that a
// Go program knows of the wall clock comes from time.Now, so that a build in which this
// adds something to it shows the same, one process at a time: timers and the monotonic
// clock stay right, as they do where the clock of a machine is stepped.

// clockVariable is the file in whose first eight bytes a process finds how many seconds
// its wall clock is off, at any time.
const clockVariable = "CHAOS_CLOCK"

// What is put in the place of the first lines of time.Now, and behind package time.
const (
	clockBefore = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n"
	clockAfter  = "\tsec, nsec, mono := runtimeNow()\n\tif chaosOff != nil {\n\t\tsec += *chaosOff\n\t}\n\tif mono == 0 {\n"
	clockSetter = `
var chaosOff *int64

func ChaosOff(seconds *int64) { chaosOff = seconds }
`
	clockFile = `package chaos_test

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

func init() {
	path := os.Getenv("` + clockVariable + `")
	if path == "" {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	time.ChaosOff((*int64)(unsafe.Pointer(&m[0])))
}
`
)

// buildStepping builds the test binary with wall clocks that can be stepped. It takes
// minutes the first time, as everything depends on package time.
func buildStepping(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("ask the go command for its root: %v", err)
	}
	source := filepath.Join(string(bytes.TrimSpace(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(text, []byte(clockBefore)) != 1 {
		t.Fatalf("%s is not as expected: it has not exactly one %q", source, clockBefore)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	patched, added := filepath.Join(dir, "time.go"), filepath.Join(dir, "clock.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		source: patched,
		filepath.Join(here, "clock_overlay_test.go"): added,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{
		patched:                            append(bytes.Replace(text, []byte(clockBefore), []byte(clockAfter), 1), clockSetter...),
		added:                              []byte(clockFile),
		filepath.Join(dir, "overlay.json"): overlay,
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "chaos.test")
	begun := time.Now()
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the test with clocks that can be stepped: %v: %s", err, out)
	}
	t.Logf("built the test with clocks that can be stepped in %v", time.Since(begun).Round(time.Second))
	return program
}

// wallClock is the wall clock of some processes.
type wallClock struct {
	t    *testing.T
	file *os.File
}

func newWallClock(t *testing.T) *wallClock {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	c := &wallClock{t: t, file: f}
	c.step(0)
	return c
}

// step has the clock be off by so much from now on.
func (c *wallClock) step(off time.Duration) {
	c.t.Helper()
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], uint64(int64(off/time.Second)))
	if _, err := c.file.WriteAt(b[:], 0); err != nil {
		c.t.Fatal(err)
	}
}

// env is what a process with this clock needs.
func (c *wallClock) env() []string { return []string{clockVariable + "=" + c.file.Name()} }

// changes counts what is written below a prefix of etcd, but for renewed leases, which
// write nothing.
type changes struct {
	mu sync.Mutex
	n  int
}

func (c *changes) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (w *fleetWorld) changes(admin *clientv3.Client) *changes {
	c := new(changes)
	news := admin.Watch(w.t.Context(), w.namespace()+"/", clientv3.WithPrefix())
	go func() {
		for r := range news {
			c.mu.Lock()
			c.n += len(r.Events)
			c.mu.Unlock()
		}
	}()
	return c
}

// testFleetStepped is F24: the wall clock of the clients, then of the servers, then of
// etcd is an hour ahead, an hour behind, and so on.
func testFleetStepped(t *testing.T, g *fleetGroup) {
	program := buildStepping(t)
	clients, servers, store := newWallClock(t), newWallClock(t), newWallClock(t)
	n := newNode(t, "default", newHost(), "--heartbeat-interval=20", "--election-timeout=200")
	n.program, n.env = program, store.env()
	n.start()
	n.answers()
	w := newFleetWorld(t, fleetSpec{
		etcd: n.endpoint(), group: g, program: program, rate: silenceRate,
		env: func(role string) []string {
			if role == roleCallers {
				return clients.env()
			}
			return servers.env()
		},
		tune: func(_ int, s *callerSpec) { s.NonIdempotent = 0.5 },
	})
	admin := dial(t, etcd.Config{Endpoints: []string{n.endpoint()}})
	pass(t, 10*time.Second) // nobody is new any more
	open := w.census()
	usual := w.baseline(time.Now())
	leases := w.mustEntries(admin)
	changed := w.changes(admin)
	every := pick(10*time.Second, 3*time.Second)
	for _, of := range []struct {
		name  string
		clock *wallClock
		reads func() time.Time
	}{
		{"clients", clients, w.clientsRead},
		{"servers", servers, func() time.Time { return time.UnixMicro(w.workers[0].count().Wall) }},
		{"etcd", store, func() time.Time { return storeReads(t, n) }},
	} {
		begun, before := time.Now(), changed.count()
		for _, off := range []time.Duration{time.Hour, -time.Hour, time.Hour, 0} {
			of.clock.step(off)
			pass(t, every)
			if is := time.Until(of.reads()); (is - off).Abs() > 5*time.Second {
				t.Fatalf("the clock of the %s is %v off, want %v", of.name, is, off)
			}
		}
		pass(t, silence) // after which there is nothing left to be noticed
		end := time.Now()
		w.judgeStepped(of.name, w.ledger.made(begun, end), usual, begun, end)
		wrote := changed.count() - before
		w.check(wrote == 0 && same(w.mustEntries(admin), leases), of.name+": every instance keeps its lease and its entry", "%d changes in etcd", wrote)
	}
	w.leavesNothing(open)
	w.finish(fleetRow{id: "F24", variant: "steps", what: fmt.Sprintf(
		"the wall clocks of all clients, then of all servers, then of etcd step by +1 h, -2 h, +2 h and -1 h, one step every %v, by a build in which time.Now adds to what the kernel says; half of the calls idempotent",
		every)})
}

// clientsRead is the time for the clients that have told theirs last.
func (w *fleetWorld) clientsRead() time.Time {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	return time.UnixMicro(w.ledger.gauges[len(w.ledger.gauges)-1].Wall)
}

// storeReads is the time for an etcd, which it puts into the head of what it answers
// over HTTP.
func storeReads(t *testing.T, n *node) time.Time {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.endpoint()+"/version", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// silence is how long a connection that carries nothing is kept, and a second.
const silence = 14 * time.Second

// judgeStepped looks for effects of steps on calls.
func (w *fleetWorld) judgeStepped(name string, calls, usual history, begun, end time.Time) {
	w.t.Helper()
	lost, closed := calls.lost(), len(w.ledger.connected(false, begun, end))
	pinged := lost.where(func(l *line) bool { return !l.Idempotent && strings.Contains(l.Reason, "keepalive ping failed") })
	if name == "clients" {
		why := "grpc's keepalive goes by the wall clock: after a step back it takes the answer to its ping for one that came before, and makes the connection again"
		w.moot(why, name+": no connection is lost, nor a call on it that may not be repeated", "%d times one of %d is made again within %v; %d calls of %d",
			closed, len(w.workers)*len(w.callers)*fleetClients, end.Sub(begun).Round(time.Second), len(pinged), len(calls))
	} else {
		w.outcome(closed == 0 && len(pinged) == 0, name+": no connection is lost", "%d", closed)
	}
	w.outcome(len(lost)-len(pinged) <= w.mayLose(0), name+": no call is lost, so no deadline comes early", "%d of %d, the longest took %v", len(lost)-len(pinged), len(calls), calls.p(1))
	out, rejected := w.ledger.told("InstanceEjected", begun, end), w.ledger.told("CallRejected", begun, end)
	w.outcome(len(out)+len(rejected) == 0, name+": nobody is ejected, no call rejected", "ejections: %s; rejected: %s", reasons(out), reasons(rejected))
	w.timed(calls.p(0.99) <= calm(usual), name+": p99 at most 1.5 x baseline + 5 ms", "%v, baseline %v", calls.p(0.99), usual.p(0.99))
	least := slimmest(calls, begun, end, w.workers) * float64(len(w.workers))
	w.timed(least >= 0.6-scatter(0.6, len(calls)/len(w.workers)), name+": every instance keeps at least 60 % of its fair share", "the least has %.0f %%", 100*least)
}

// same tells whether two looks at etcd found the same entries.
func same(a, b map[string][]entry) bool {
	if len(a) != len(b) {
		return false
	}
	for addr, list := range a {
		if len(list) != len(b[addr]) {
			return false
		}
		for i := range list {
			if list[i] != b[addr][i] {
				return false
			}
		}
	}
	return true
}
