package democmd

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// table is what a person reads at the end.
func table(r result, s summary) string {
	var b strings.Builder
	b.WriteString("\n")
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-24s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("calls", "%8d", r.Calls)
	row("failed calls", "%8d", r.Failed)
	row("retries", "%8d", r.Retries)
	row("latency p50 / p99", "%8.2f / %.2f ms", r.P50MS, r.P99MS)
	for _, id := range slices.Sorted(maps.Keys(s.instances)) {
		note := ""
		switch id {
		case r.Killed:
			note = "killed with SIGKILL under load"
		case r.Restarted:
			note = "started in its place"
		}
		row("calls of "+id, "%8d   %s", s.instances[id], note)
	}
	if len(r.TraceLogs) > 0 {
		row("one trace", "%s is in the logs of %s", r.TraceID, strings.Join(r.TraceLogs, ", "))
	}
	b.WriteString("\n")
	if r.OK {
		fmt.Fprintf(&b, "  An instance was killed and another took its place: %d calls were made and none was lost.", r.Calls)
	} else {
		fmt.Fprintf(&b, "  An instance was killed: %d of %d calls were lost, which should not be.", r.Failed, r.Calls)
	}
	return b.String()
}
