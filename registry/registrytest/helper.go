package registrytest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"plinth.internal/registry"
)

func (u update) ids() []string {
	ids := make([]string, 0, len(u.snapshot.Instances))
	for _, inst := range u.snapshot.Instances {
		ids = append(ids, inst.ID)
	}
	return ids
}

// find returns the instance with the given ID, if it is in the list.
func (u update) find(id string) (registry.Instance, bool) {
	i := slices.IndexFunc(u.snapshot.Instances, func(inst registry.Instance) bool { return inst.ID == id })
	if i < 0 {
		return registry.Instance{}, false
	}
	return u.snapshot.Instances[i], true
}

func (u update) String() string {
	return fmt.Sprintf("%s of %q quarantined %v skipped %v error %v",
		list(u.ids()), u.snapshot.Source, u.snapshot.Quarantined, u.snapshot.Skipped, u.err)
}

func list(ids []string) string { return "[" + strings.Join(ids, " ") + "]" }

// untilStatus polls for a status: it is not pushed.
func untilStatus(t *testing.T, reg *registry.Registry, what string, ok func(registry.Status) bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok(reg.Status()) {
		if time.Now().After(deadline) {
			t.Fatalf("status is not %s within %v: %+v", what, patience, reg.Status())
		}
		<-tick.C
	}
}

func encode(t *testing.T, inst registry.Instance) []byte {
	t.Helper()
	data, err := registry.Encode(inst)
	if err != nil {
		t.Fatalf("Encode: %v", err)
	}
	return data
}
