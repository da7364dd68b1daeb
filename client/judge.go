package client

import (
	"time"

	"plinth.internal/client/outlier"
)

// judge tells of what the detector has made of an attempt's outcome.
func (n *node) judge(now time.Time, c outlier.Change) {
	s := n.home.service
	switch c.Kind {
	case outlier.None:
	case outlier.Ejected:
		share := 1.0 // of the trial
		if c.Calls > 0 {
			share = float64(c.Failures) / float64(c.Calls)
		}
		s.client.options.events(InstanceEjected{
			Service: s.name, Protocol: n.home.protocol, Instance: n.id, Addr: n.addr, Reason: string(c.Reason),
			Share: share, Run: c.Run, For: c.Until.Sub(now), Times: c.Count, KeptOut: !c.Panic,
		})
	case outlier.Returned:
		s.client.options.events(InstanceReturned{Service: s.name, Protocol: n.home.protocol, Instance: n.id, Addr: n.addr})
	}
}
