//go:build linux

package chaos_test

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// testFleetHerd is F28: many clients lose the same instances at once.
func testFleetHerd(t *testing.T, g *fleetGroup, servers, killing, clients int, down time.Duration, variant string) {
	w := newFleetWorld(t, fleetSpec{group: g, servers: servers, rate: 50,
		ready: func(w *fleetWorld) error {
			if have := w.ledger.open(""); have != servers*clients {
				return fmt.Errorf("%d connections, want %d", have, servers*clients)
			}
			return nil
		},
		tune: func(_ int, s *callerSpec) {
			s.Clients, s.Dials, s.Spread = clients/fleetCallers, true, 2*time.Second
			s.Rate = 50 / float64(clients)
		}})
	overflowed := listenOverflows(t)
	killed := time.Now()
	victims := w.workers[:killing]
	for _, i := range victims {
		i.p.kill()
	}
	pass(t, down)
	restarted := time.Now()
	for _, i := range victims {
		i.start()
	}
	for _, i := range victims {
		i.listens()
	}
	listening := time.Now()
	eventually(t, 30*time.Second, "all clients are connected again", func() error { return w.spec.ready(w) })
	end := time.Now()
	refused, syn, spread := 0, 0, time.Duration(0)
	for _, i := range victims {
		of := func(l *line) bool { return l.Addr == i.seen }
		refused = max(refused, densest(times(selected(w.ledger.dialled(killed, listening), of)), time.Second))
		syn = max(syn, densest(times(selected(w.ledger.dialled(listening, end), of)), time.Second))
		made := times(selected(w.ledger.connected(true, restarted, end), of))
		if len(made) > 1 {
			spread = max(spread, made[len(made)-1].Sub(made[0]))
		}
	}
	w.timed(syn <= 200, "at most 200 SYN a second at an instance that comes back", "%d; while it was down up to %d, refused", syn, refused)
	over := listenOverflows(t) - overflowed
	w.outcome(over == 0, "no overflow of the accept queue", "%d on this machine", over)
	if perServer := clients; perServer >= 1000 {
		w.timed(spread >= 5*time.Second, "handshakes of 1000 clients spread over at least 5 s", "%v, the first of them %v after it listened", spread.Round(time.Millisecond), listening.Sub(restarted).Round(time.Millisecond))
	}
	w.finish(fleetRow{id: "F28", variant: variant, what: fmt.Sprintf("%d of %d instances killed and started again after %v, %d clients", killing, servers, down, clients)})
}

// listenOverflows returns how many connections were dropped on this machine so
// far because nobody accepted them in time.
func listenOverflows(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for k, name := range names {
			if name == "ListenOverflows" {
				n, err := strconv.Atoi(values[k])
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
	}
	t.Fatal("the kernel does not count overflows of accept queues")
	return 0
}

// testFleetSparse is F35: many clients with a call now and then, one black
// hole and one slow instance.
func testFleetSparse(t *testing.T, g *fleetGroup, precise bool, variant string) {
	clients, every, spread := 1000, 10*time.Second, 20*time.Second
	length := pick(120*time.Second, 12*time.Second)
	if !*full {
		clients, spread = 100, 2*time.Second
	}
	w := newFleetWorld(t, fleetSpec{group: g,
		ready: func(w *fleetWorld) error {
			if have := w.ledger.open(""); have != fleetServers*clients {
				return fmt.Errorf("%d connections, want %d", have, fleetServers*clients)
			}
			return nil
		},
		tune: func(_ int, s *callerSpec) {
			s.Clients, s.Spread, s.Attempts, s.Precise = clients/fleetCallers, spread, 1, precise
			s.Rate = 1 / every.Seconds()
		}})
	hole, slow := w.workers[3], w.workers[5]
	begun := time.Now()
	hole.p.order(fmt.Sprintf("fail %d", codes.Unknown))
	slow.p.order("slow 50ms")
	pass(t, length)
	end := time.Now()
	calls := w.ledger.made(begun, end)
	touched := calls.caught(hole.seen, begun, end)
	first := len(touched.each())
	lost := len(calls.lost())
	w.outcome(float64(lost) <= 1.2*float64(first)+float64(w.mayLose(0)), "lost: at most 1.2 x the clients that met the black hole (their first contact cannot be avoided)", "%d lost of %d by %d clients that met it: %.2f x", lost, len(calls), first, float64(lost)/float64(max(1, first)))
	share := calls.share(begun, end, hole.seen) * fleetServers
	// Three standard deviations of a share of so many calls, in fair shares.
	chance := 3 * math.Sqrt((fleetServers-1)/float64(len(calls)))
	w.timed(share <= 1.2+chance, "no forced picks: the black hole gets no more than a fair share (and 20 %, and three standard deviations)", "%.0f %% of it; the slow instance %.0f %%", 100*share, 100*calls.share(begun, end, slow.seen)*fleetServers)
	w.finish(fleetRow{id: "F35", variant: variant, what: fmt.Sprintf("%d clients with a call every %v, no retries, for %v; one instance answers UNKNOWN at once, one takes 50 ms more", clients, every, length)})
}
