//go:build linux

package chaos_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fleetRow is what a scenario of a fleet found out.
type fleetRow struct {
	id, variant, what string
	transport         string
	checks            []fleetCheck
	side              *fleetSide // nil where it is not compared

	// What every run records; the pairs are after the warm-up and at the end.
	calls, lost       int
	attempts          float64
	p50, p99          time.Duration
	codes             string
	goroutines, conns [2]int
}

// name is what the row is called in the report.
func (r *fleetRow) name() string {
	name := strings.TrimSpace(r.id + " " + r.variant)
	if r.transport != overGRPC {
		name += " over " + r.transport
	}
	return name
}

// fleetCheck is one criterion and how it went.
type fleetCheck struct {
	criterion, measured string
	ok                  bool
	moot                bool // the transport has nothing that could meet it
}

// fleetReport collects the rows.
var fleetReport struct {
	mu   sync.Mutex
	rows []fleetRow
}

func recordFleet(r fleetRow) {
	fleetReport.mu.Lock()
	defer fleetReport.mu.Unlock()
	fleetReport.rows = append(fleetReport.rows, r)
}

var errOpen = errors.New("it is open")

func contains(s, part string) bool { return strings.Contains(s, part) }

func percent(n, of int) float64 { return 100 * float64(n) / float64(max(1, of)) }

// times returns when the lines happened, in order.
func times(lines []line) []time.Time {
	var at []time.Time
	for _, l := range lines {
		at = append(at, time.UnixMicro(l.At))
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// writeFaults writes docs/faults.md.
func writeFaults(t *testing.T) {
	t.Helper()
	if !*full {
		t.Fatal("-write is of no use without -full: the short form shows that it works, not what it is worth")
	}
	fleetReport.mu.Lock()
	defer fleetReport.mu.Unlock()
	rows := fleetReport.rows
	slices.SortStableFunc(rows, func(a, b fleetRow) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.variant, b.variant), cmp.Compare(a.transport, b.transport))
	})
	var b strings.Builder
	fmt.Fprintf(&b, `# What a fleet survives

Written by the chaos suite; do not edit. To measure again:

    go test ./internal/chaos -run TestFleet -full -write -timeout 60m

Measured on %s. %d instances of a service in a process each, %d processes of %d clients, each client with its own state and
connections; the handler takes %v, callers wait %v, and all clients together make %.0f calls a second at random moments, whatever becomes of
them. Settings are the defaults. A row says where it is otherwise. Everything runs on one machine: those scenarios that judge small times
one after the other, the rest four side by side; the load is what two cores carry so, not what ten machines would.

"Lost" are calls that returned an error to their caller. "In flight on it" are calls with an attempt at that instance at that moment. An instance's
fair share is one in the number of instances. The share of an instance counts attempts that were sent: as grpc's transport tells, over HTTP requests
that net/http has written, over net/rpc requests as they are on the wire. Where nothing else is said calls go over gRPC.

| fault | what was done | criterion | measured | |
|---|---|---|---|---|
`, time.Now().UTC().Format("2006-01-02"), fleetServers, fleetCallers, fleetClients, workTime, workDeadline, fleetRate())
	for _, r := range rows {
		name := r.name()
		what := r.what
		for _, c := range r.checks {
			verdict := "met"
			switch {
			case c.moot:
				verdict = "does not apply"
			case !c.ok:
				verdict = "**not met**"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", name, what, c.criterion, c.measured, verdict)
			name, what = "", ""
		}
	}
	b.WriteString(sidesText(rows))
	fmt.Fprintf(&b, `
## What every run records

Each run keeps a table with a row for each tenth of a second: calls that succeeded and failed, attempts, goroutines and connections of the clients, and
attempts to each instance (timeline.csv; go test -artifacts keeps it). In all:

| fault | calls | lost | attempts per call | p50 | p99 | codes | goroutines of the clients | connections |
|---|---|---|---|---|---|---|---|---|
`)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %d | %d | %.3f | %.1f ms | %.1f ms | %s | %d, then %d | %d, then %d |\n", r.name(), r.calls, r.lost, r.attempts,
			milliseconds(r.p50), milliseconds(r.p99), r.codes, r.goroutines[0], r.goroutines[1], r.conns[0], r.conns[1])
	}
	b.WriteString(fleetNotes)
	path := filepath.Join("..", "..", "docs", "faults.md")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("wrote %s", path)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// fleetNotes say where a scenario is not what its name promises.
const fleetNotes = `
## How to read it

- F01: an attempt that was sent while the instance was dying counts as in flight on it.
- F02: a round trip is what a call takes beside its handler, as the callers see it before the restart.
- F04 over HTTP and net/rpc: nothing but calls shows that a process is stopped, because neither protocol has a ping and its kernel goes on to
  acknowledge. What a client knows of a silent instance fades within half a minute, and one call of each client then finds out anew. A server of net/rpc is
  told no deadline, so it does what it finds when it goes on.
- F16, F31: the trickle is a share of the fair share. A tenth of all calls on an instance that is ten times slower would put p99 where
  those calls are, so both criteria can only hold together when it is read so. Loss and delay come from a proxy: the delay of a segment that is
  sent again is the shortest that Linux waits, 200 ms, and holds up what follows it on that connection, as TCP does.
- F17: the processes that retry and those that do not run beside one another in the same fleet.
  INTERNAL and UNKNOWN are the same over HTTP, and over net/rpc every error is UNKNOWN, so one of them is laid beside the others.
- Overload: the instance says that another one may be asked (grpc-retry-pushback-ms), over HTTP as over gRPC. net/rpc has no way to say so; its callers
  get the error, which a function given to the client has turned into RESOURCE_EXHAUSTED by its text.
- F19, F20, F32: the workers of an instance are arithmetic: each call is done at the moment at which so many workers, which take the calls in the
  order of arrival, would have done it. Their capacity is therefore exact, whatever else this machine does. They do what they have taken on even if
  nobody waits any more. Capacity is what they can do in a second; goodput is the calls that were answered in time. A call that
  an instance hands back because it is busier than the others is no attempt more: nothing has failed, and no budget pays for it.
- F20: "attempts at the last service" are what its transport received, with what its limiter and its bounce turned away. Each of the hops retries:
  the callers to the first service, that to the second, that to the last.
- F22: the proxy acknowledges what it swallows, so the kernel's TCP_USER_TIMEOUT cannot help and the keepalive alone has to find it.
- F24: with etcd, what one process says about time to another are the start of an instance, in its entry, and the date of a list on disk; everything
  else that travels is a duration, but for certificates and tokens, whose times are meant. For the steps, processes run a build in which time.Now adds seconds that the test chooses to what the kernel says. All
  that a Go program knows of the wall clock comes from there, etcd included; timers and the monotonic clock stay right, as where a
  machine's clock is stepped. Each process is asked what time it has, to show that it was off. One effect is left, and is grpc-go's: a client that
  has its clock set back makes each connection again, within 13 s, because the keepalive compares moments of the wall clock. Idempotent
  calls on it are repeated; another one that is on it in that moment is lost.
- F25: a call that waits in a process that is stopped is lost when its deadline passes, unless attempts may wait for less than the call (attempt_timeout).
- F26: the caller is the test itself. Before it passes on a deadline each service keeps 5 ms of it, or a quarter if that is less, to answer with. None
  of its calls is meant to succeed, so none counts as lost.
- F28: "SYN" are the connections that the clients try to make. Refused ones cost an instance nothing, because it is not there; those are shown too.
  The first attempt after a connection was lost is made at once (F21), those after it wait as long as another instance can be called. A client that can
  call nobody else does not wait, so the clients of a single instance come back all at once. Half a second is what it takes two cores to make the first
  thousand attempts; an instance that is back before that gets a part of them, 312 in the densest second when it was tried.
- F33: an instance whose handlers hang has many calls in flight, so it hands most of what still comes to it back at once; such a call is
  made elsewhere and is not counted as a trial.
`
