package framework

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"plinth.internal/client"
)

// TestClientsPageOfManyInstances: a person gets those that matter, and a page that
// a browser can show.
func TestClientsPageOfManyInstances(t *testing.T) {
	ready := client.ConnectionExplained{State: "ready", Health: "serving"}
	var all []client.InstanceExplained
	for i := range 2999 {
		all = append(all, client.InstanceExplained{ID: fmt.Sprintf("i-%04d", i), State: client.StateOutside, Warm: 1})
	}
	show := func(doc client.ServiceExplained) (clientView, string) {
		doc.Service, doc.Instances = "billing", all
		v := viewClients(ClientsDocument{Service: "orders", Clients: []client.ServiceExplained{doc}})
		var page strings.Builder
		if err := clientsTemplate.Execute(&page, v); err != nil {
			t.Fatal(err)
		}
		return v.Views[0], page.String()
	}
	change := func(i int, f func(*client.InstanceExplained)) {
		all[i].State, all[i].Connection = client.StateUp, ready
		f(&all[i])
	}
	change(100, func(*client.InstanceExplained) {})
	change(200, func(e *client.InstanceExplained) { e.Picks = 1 })
	change(300, func(e *client.InstanceExplained) { e.Ejection = &client.EjectionExplained{Now: true} })
	change(400, func(e *client.InstanceExplained) { e.Connection = client.ConnectionExplained{State: "failed"} })
	change(500, func(e *client.InstanceExplained) { e.State = client.StateDraining })
	all[600].InFlight = 2 // its calls outlast its place in the subset
	v, page := show(client.ServiceExplained{})
	var order []string
	for _, e := range v.Rows {
		order = append(order, e.ID)
	}
	if want := []string{"i-0300", "i-0400", "i-0500", "i-0600", "i-0200", "i-0100"}; !slices.Equal(order, want) {
		t.Errorf("the rows are %v, want %v", order, want)
	}
	if !strings.Contains(page, "2993 more instances are not in this client's subset") || strings.Contains(page, "i-0007") {
		t.Errorf("the page says not that others are outside:\n%s", page)
	}
	for i := range all {
		change(i, func(e *client.InstanceExplained) { e.Picks, e.Ejection = 1, nil })
	}
	change(2998, func(e *client.InstanceExplained) { e.Failures = 1 })
	v, page = show(client.ServiceExplained{})
	if len(v.Rows) != maxRows || v.Rows[0].ID != "i-2998" || !strings.Contains(page, "2799 more instances are well") || len(page) > 500_000 {
		t.Errorf("%d rows, the first one is %s, %d bytes", len(v.Rows), v.Rows[0].ID, len(page))
	}
}
