//go:build linux

package chaos_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// ledger holds everything that the callers of a fleet have told.
type ledger struct {
	mu     sync.Mutex
	calls  []line
	events []line
	conns  []line
	dials  []line
	gauges []line
	idle   int // processes whose calls have all ended
	broken []string
}

// stream takes the standard output of one process.
type stream struct {
	take func(line)
	bad  func(string)
	rest []byte
}

// Write cuts what comes into lines.
func (s *stream) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for {
		i := bytes.IndexByte(s.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		var l line
		if err := json.Unmarshal(s.rest[:i], &l); err != nil || l.Kind == "" {
			s.bad(string(s.rest[:i]))
		} else {
			s.take(l)
		}
		s.rest = s.rest[i+1:]
	}
}

// from returns where the process of that number writes to; it has size clients.
func (b *ledger) from(process, size int) *stream {
	take := func(l line) {
		l.Client += process * size
		b.mu.Lock()
		defer b.mu.Unlock()
		switch l.Kind {
		case lineCall:
			b.calls = append(b.calls, l)
		case lineEvent:
			b.events = append(b.events, l)
		case lineConn:
			b.conns = append(b.conns, l)
		case lineDial:
			b.dials = append(b.dials, l)
		case lineIdle:
			b.idle++
			b.gauges = append(b.gauges, l)
		case lineGauge:
			l.Client = process
			b.gauges = append(b.gauges, l)
		}
	}
	return &stream{take: take, bad: func(text string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.broken = append(b.broken, text)
	}}
}

// within tells whether the line's time is in [from, to).
func (l *line) within(from, to time.Time) bool {
	return l.At >= from.UnixMicro() && l.At < to.UnixMicro()
}

// made returns the calls that were made in [from, to) and have ended.
func (b *ledger) made(from, to time.Time) history {
	b.mu.Lock()
	defer b.mu.Unlock()
	return selected(b.calls, func(l *line) bool { return l.within(from, to) })
}

// told returns the events of that time whose name has the word in it.
func (b *ledger) told(word string, from, to time.Time) []line {
	b.mu.Lock()
	defer b.mu.Unlock()
	return selected(b.events, func(l *line) bool { return l.within(from, to) && strings.Contains(l.Name, word) })
}

// reasons says how often which reason was given.
func reasons(events []line) string {
	n := map[string]int{}
	for _, l := range events {
		n[l.Reason]++
	}
	if len(n) == 0 {
		return "0"
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d (%s)", n[reason], reason))
	}
	return strings.Join(parts, ", ")
}

// connected returns the connections that were made, or lost, in that time.
func (b *ledger) connected(up bool, from, to time.Time) []line {
	b.mu.Lock()
	defer b.mu.Unlock()
	return selected(b.conns, func(l *line) bool { return l.Up == up && l.within(from, to) })
}

// dialled returns the attempts to connect in that time.
func (b *ledger) dialled(from, to time.Time) []line {
	b.mu.Lock()
	defer b.mu.Unlock()
	return selected(b.dials, func(l *line) bool { return l.within(from, to) })
}

// open returns how many connections there are to the address, or to all if it
// is "".
func (b *ledger) open(addr string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, l := range b.conns {
		switch {
		case addr != "" && l.Addr != addr:
		case l.Up:
			n++
		default:
			n--
		}
	}
	return n
}

// gauge returns the last sums over all processes before a time.
func (b *ledger) gauge(before time.Time) (goroutines, conns int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := map[int]line{}
	for _, l := range b.gauges {
		if l.Kind == lineGauge && l.At < before.UnixMicro() {
			last[l.Client] = l
		}
	}
	for _, l := range last {
		goroutines += l.Goroutines
		conns += l.Conns
	}
	return goroutines, conns
}

func selected[S ~[]E, E any](all S, want func(*E) bool) S {
	var some S
	for i := range all {
		if want(&all[i]) {
			some = append(some, all[i])
		}
	}
	return some
}

// history is some calls.
type history []line

func (h history) where(want func(*line) bool) history { return selected(h, want) }

func (h history) idempotent() history { return h.where(func(l *line) bool { return l.Idempotent }) }
func (h history) once() history       { return h.where(func(l *line) bool { return !l.Idempotent }) }
func (h history) good() history       { return h.where(func(l *line) bool { return !l.Bad }) }

// lost returns those that ended with an error, but for those that the caller
// gave up itself and those that ask for an error.
func (h history) lost() history {
	return h.where(func(l *line) bool { return l.Code != codes.OK && !l.Canceled && !l.Bad })
}

// p returns the duration that a share of the calls did not exceed.
func (h history) p(share float64) time.Duration {
	took := make([]int64, 0, len(h))
	for _, l := range h {
		if !l.Canceled {
			took = append(took, l.Took)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return time.Duration(took[min(len(took)-1, int(share*float64(len(took))))]) * time.Microsecond
}

// tries returns the attempts that were sent in [from, to), to one of the
// addresses if there are any.
func (h history) tries(from, to time.Time, addrs ...string) []try {
	var all []try
	for _, l := range h {
		for _, one := range l.Tries {
			if one.At >= from.UnixMicro() && one.At < to.UnixMicro() && (len(addrs) == 0 || slices.Contains(addrs, one.Addr)) {
				all = append(all, one)
			}
		}
	}
	return all
}

// share returns which part of the attempts sent in that time went to the
// addresses.
func (h history) share(from, to time.Time, addrs ...string) float64 {
	all := len(h.tries(from, to))
	if all == 0 {
		return 0
	}
	return float64(len(h.tries(from, to, addrs...))) / float64(all)
}

// caught returns the calls with an attempt in flight at the address at any time
// in [from, to].
func (h history) caught(addr string, from, to time.Time) history {
	return h.where(func(l *line) bool {
		return slices.ContainsFunc(l.Tries, func(one try) bool {
			return one.Addr == addr && one.At <= to.UnixMicro() && one.At+one.Took >= from.UnixMicro()
		})
	})
}

// each returns how many of the calls each client made, most first.
func (h history) each() []int {
	n := map[int]int{}
	for _, l := range h {
		n[l.Client]++
	}
	return slices.SortedFunc(maps.Values(n), func(a, b int) int { return b - a })
}

// attempts returns the mean number of attempts that were sent for a call.
func (h history) attempts() float64 {
	n := 0
	for _, l := range h {
		n += len(l.Tries)
	}
	return float64(n) / float64(max(1, len(h)))
}

// codes says how many calls ended with which code.
func (h history) codes() string {
	n := map[codes.Code]int{}
	for _, l := range h {
		n[l.Code]++
	}
	var parts []string
	for _, c := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%s %d", c, n[c]))
	}
	return strings.Join(parts, ", ")
}

// sample describes some of the calls, for a failed test's log.
func (h history) sample(begun time.Time) string {
	var b strings.Builder
	for i, l := range h {
		if i == 8 {
			fmt.Fprintf(&b, "  and %d more\n", len(h)-i)
			break
		}
		fmt.Fprintf(&b, "  client %d at %v for %v: %s %q idempotent=%v tries=", l.Client, time.UnixMicro(l.At).Sub(begun).Round(time.Millisecond), time.Duration(l.Took)*time.Microsecond, l.Code, l.Reason, l.Idempotent)
		for _, one := range l.Tries {
			fmt.Fprintf(&b, "[%s +%dus %dus %s]", one.Addr, one.At-l.At, one.Took, one.Code)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// window is a tenth of a second.
const window = 100 * time.Millisecond

// timeline is a table, with a row for each window, of what the calls made in it
// came to and where their attempts went.
func (b *ledger) timeline(from, to time.Time, addrs []string) string {
	calls := b.made(from, to)
	size := int(to.Sub(from)/window) + 1
	type cell struct {
		good, lost, tries, goroutines, conns int
		to                                   []int
	}
	rows := make([]cell, size)
	for i := range rows {
		rows[i].to = make([]int, len(addrs))
	}
	at := func(micro int64) *cell {
		return &rows[min(max(0, int(time.UnixMicro(micro).Sub(from)/window)), size-1)]
	}
	for _, l := range calls {
		if l.Code == codes.OK {
			at(l.At).good++
		} else {
			at(l.At).lost++
		}
		for _, one := range l.Tries {
			c := at(one.At)
			c.tries++
			if i := slices.Index(addrs, one.Addr); i >= 0 {
				c.to[i]++
			}
		}
	}
	b.mu.Lock()
	for _, l := range b.gauges {
		if l.Kind == lineGauge && l.within(from, to) {
			at(l.At).goroutines += l.Goroutines
			at(l.At).conns += l.Conns
		}
	}
	b.mu.Unlock()
	var text strings.Builder
	fmt.Fprintf(&text, "seconds,good,lost,attempts,goroutines,connections,%s\n", strings.Join(addrs, ","))
	for i, c := range rows {
		fmt.Fprintf(&text, "%.1f,%d,%d,%d,%d,%d", float64(i)*window.Seconds(), c.good, c.lost, c.tries, c.goroutines, c.conns)
		for _, n := range c.to {
			fmt.Fprintf(&text, ",%d", n)
		}
		text.WriteByte('\n')
	}
	return text.String()
}
