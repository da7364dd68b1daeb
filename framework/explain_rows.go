package framework

import (
	"cmp"
	"slices"

	"plinth.internal/client"
)

// maxRows is how many instances of a service the page shows. A person reads no more,
// and a browser is slow with thousands of them; a program gets all.
const maxRows = 200

// clientsView is a [ClientsDocument] as a person gets it.
type clientsView struct {
	ClientsDocument

	Views []clientView
}

// clientView is one service with the instances that are worth a row.
type clientView struct {
	client.ServiceExplained

	Rows    []client.InstanceExplained
	Outside int // not in the subset
	More    int // the rest
}

func viewClients(doc ClientsDocument) clientsView {
	v := clientsView{ClientsDocument: doc}
	for _, s := range doc.Clients {
		c := clientView{ServiceExplained: s}
		for _, e := range s.Instances {
			if e.State == client.StateOutside && e.InFlight == 0 {
				c.Outside++
			} else {
				c.Rows = append(c.Rows, e)
			}
		}
		slices.SortStableFunc(c.Rows, func(a, b client.InstanceExplained) int { return cmp.Compare(interest(&a), interest(&b)) })
		c.More = max(len(c.Rows)-maxRows, 0)
		c.Rows = c.Rows[:len(c.Rows)-c.More]
		v.Views = append(v.Views, c)
	}
	return v
}

// interest is lowest for the instances that a person looks for: those that something
// is the matter with come first, then those with calls.
func interest(e *client.InstanceExplained) int {
	well := e.State == client.StateUp && e.Warm == 1 && e.Failures+e.Refused == 0 &&
		(e.Ejection == nil || !e.Ejection.Now) && e.Cost.Relative < 2 &&
		(e.Connection.State == "ready" || e.Connection.State == "") && (e.Connection.Health == "serving" || e.Connection.Health == "")
	switch {
	case !well:
		return 0
	case e.Picks > 0 || e.InFlight > 0:
		return 1
	case e.Connection.State != "":
		return 2
	}
	return 3
}
