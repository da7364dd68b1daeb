//go:build linux

package chaos_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// transports are all of them, in the order of the report.
var transports = []string{overGRPC, overHTTP, overNetRPC}

// named is the name of a transport for a reader.
func named(transport string) string {
	if transport == overGRPC {
		return "gRPC"
	}
	return transport
}

// fleetSide is what one fault came to over one transport, to be laid beside the
// same fault over another.
type fleetSide struct {
	fault     string
	transport string
	sick      []*instance   // nobody, where nobody is to blame
	share     float64       // of the calls that go to them while it lasts, in fair shares
	back      time.Duration // until they have half of their fair share again; 0 = not a part of it

	// Filled in by finish.
	ejected, well []string // instances that a client ejected: sick ones, others
	by            int      // clients that ejected anybody
	calls, lost   int
}

// avoidedShare is what somebody who is avoided has less of, in fair shares. What is
// slow keeps a trickle, and so does what sheds load.
const avoidedShare = 0.5

// verdict is what the policies made of the fault.
func (s *fleetSide) verdict() string {
	avoided := "nobody is avoided"
	switch {
	case len(s.sick) > 0 && s.share < avoidedShare:
		avoided = fmt.Sprintf("%d avoided", len(s.sick))
	case len(s.sick) > 0:
		avoided = fmt.Sprintf("%d not avoided", len(s.sick))
	}
	return fmt.Sprintf("%s, %d ejected", avoided, len(s.ejected)+len(s.well))
}

// row is the side in the report.
func (s *fleetSide) row(of []*fleetSide) string {
	share, back := "-", "-"
	if len(s.sick) > 0 {
		share = fmt.Sprintf("%.1f %%", 100*s.share)
	}
	if s.back != 0 {
		back = show(s.back)
	}
	same := "the same"
	if s.verdict() != of[0].verdict() {
		same = "**differs**"
	}
	return fmt.Sprintf("| %s | %d of %d | %s | %d sick, %d well, by %d clients | %s | %s | %s |\n",
		named(s.transport), s.lost, s.calls, share, len(s.ejected), len(s.well), s.by, back, s.verdict(), same)
}

// sidesText is the section of the report.
func sidesText(rows []fleetRow) string {
	var b strings.Builder
	b.WriteString(sidesHead)
	all := sides(rows)
	for _, fault := range slices.Sorted(maps.Keys(all)) {
		for _, s := range all[fault] {
			fmt.Fprintf(&b, "| %s %s", fault, s.row(all[fault]))
		}
	}
	return b.String()
}

const sidesHead = `
## The same faults over gRPC, HTTP and net/rpc

The same handler, faults and clients, once over each transport: HTTP/1.1 with GET where a call is idempotent and POST where it is not, net/rpc
over TCP with a server that has nothing but the standard library. The criteria are in the table above, one row of it for each
transport; here is what lies side by side, over the whole run. "Share" is what the instances with the fault get while it lasts (F16: when three are
slow), in shares of a fair one. "Ejected" are instances that any client ejected. "Back" is how long after the fault it had half of its fair share again.
The verdict is who was avoided (less than half of a fair share) and how many were ejected; it must be the same over all three.

| fault | transport | lost | share | ejected | back | verdict | |
|---|---|---|---|---|---|---|---|
`

// conclude counts the ejections of a fault.
func (s *fleetSide) conclude(w *fleetWorld, calls history) {
	s.transport, s.calls, s.lost = w.transport, len(calls), len(calls.lost())
	clients := map[int]bool{}
	for _, l := range w.ledger.told("InstanceEjected", w.begun, w.ended) {
		clients[l.Client] = true
		list := &s.well
		if slices.ContainsFunc(s.sick, func(i *instance) bool { return i.seen == l.Addr }) {
			list = &s.ejected
		}
		if !slices.Contains(*list, l.Addr) {
			*list = append(*list, l.Addr)
		}
	}
	s.by = len(clients)
}

// sides returns what was recorded of each fault, in the order of the transports.
func sides(rows []fleetRow) map[string][]*fleetSide {
	all := map[string][]*fleetSide{}
	for _, r := range rows {
		if r.side != nil {
			all[r.side.fault] = append(all[r.side.fault], r.side)
		}
	}
	for _, of := range all {
		slices.SortStableFunc(of, func(a, b *fleetSide) int {
			return cmp.Compare(slices.Index(transports, a.transport), slices.Index(transports, b.transport))
		})
	}
	return all
}

// judgeSides holds each fault to the same verdict over every transport.
func judgeSides(t *testing.T, starved bool) {
	t.Helper()
	fleetReport.mu.Lock()
	defer fleetReport.mu.Unlock()
	for fault, of := range sides(fleetReport.rows) {
		var texts []string
		same := true
		for _, s := range of {
			texts = append(texts, named(s.transport)+": "+s.verdict())
			same = same && s.verdict() == of[0].verdict()
		}
		text := strings.Join(texts, "; ")
		switch {
		case same:
			t.Logf("%s: %s", fault, text)
		case raced || starved:
			t.Logf("not judged while the processors are scarce: %s: %s", fault, text)
		default:
			t.Errorf("%s: the verdicts differ: %s", fault, text)
		}
	}
}
