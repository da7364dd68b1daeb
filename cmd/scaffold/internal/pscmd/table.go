package pscmd

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"plinth.internal/registry"
)

// table is the list as a person reads it.
func (l list) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tID\tVERSION\tZONE\tSTATE\tWEIGHT\tAGE\tHEALTH\tADDRESS")
	for _, r := range l.rows {
		i := r.inst
		fmt.Fprintln(w, strings.Join([]string{
			i.Service, i.ID, plain(i.Version), plain(i.Zone), r.state(), r.weight(), age(l.at, i.Started), r.health.String(), plain(address(i)),
		}, "\t"))
	}
	_ = w.Flush() // to memory
	if len(l.odd) > 0 {
		b.WriteString("\nIn the registry, but not instances:\n")
		for _, s := range l.odd {
			fmt.Fprintf(&b, "  %s: %s\n", plain(s.Key), plain(s.Err.Error()))
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// state is the state in the registry and, where an operator has a say in it,
// what that is.
func (r row) state() string {
	switch {
	case r.override.State != registry.Draining:
		return string(r.inst.State)
	case r.inst.State == registry.Draining:
		return "draining (operator)"
	default:
		return string(r.inst.State) + " (operator: draining)" // not followed, or not yet
	}
}

func (r row) weight() string {
	weight := strconv.Itoa(r.inst.Weight)
	switch r.override.Weight {
	case 0:
		return weight
	case r.inst.Weight:
		return weight + " (operator)"
	default:
		return fmt.Sprintf("%s (operator: %d)", weight, r.override.Weight)
	}
}

// String is the word of the instance, and the state of its registration where
// that is not what is to be expected of an entry that is there.
func (h health) String() string {
	if h.registry == "" || h.registry == string(registry.Registered) {
		return h.status
	}
	return h.status + " (" + plain(h.registry) + ")"
}

// age is short: one number and one unit.
func age(now, started time.Time) string {
	d := max(now.Sub(started), 0) // clocks differ
	switch {
	case started.IsZero():
		return "-"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

// plain makes text from the registry safe for a terminal and a table: anybody
// who may register a service may write it.
func plain(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
