package zookeeper

import (
	"time"

	"github.com/go-zookeeper/zk"
)

// hosts hands out the servers in turn, by name: the dialer resolves it, each
// time. The client's own provider resolves names once and for ever. It is used
// by one goroutine.
type hosts struct {
	names []string
	next  int
	tried int       // since the last session
	since time.Time // when the last session began
}

var _ zk.HostProvider = (*hosts)(nil)

// Init takes the servers, which the client has shuffled.
func (h *hosts) Init(names []string) error {
	h.names = names
	return nil
}

// Len returns the number of servers.
func (h *hosts) Len() int { return len(h.names) }

// Next returns the next server, and whether the client is to pause for a second
// before: after each round of servers that were tried in vain, and when the
// last connection lived for less than a second.
func (h *hosts) Next() (string, bool) {
	pause := h.tried > 0 && h.tried%len(h.names) == 0 || h.tried == 0 && time.Since(h.since) < time.Second
	name := h.names[h.next%len(h.names)]
	h.next++
	h.tried++
	return name, pause
}

// Connected notes that the server handed out last has given a session.
func (h *hosts) Connected() { h.tried, h.since = 0, time.Now() }
