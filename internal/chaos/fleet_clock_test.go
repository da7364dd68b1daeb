//go:build linux

package chaos_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
)

// testFleetLiars is the part of F24 that needs no clock but the right one: what other
// processes have written by a wrong one. That is the moment of their start, in their
// entries, and the moment of a list, in a file.
func testFleetLiars(t *testing.T, g *fleetGroup) {
	lies := []time.Duration{0, 0, 0, 0, time.Hour, time.Hour, time.Hour, -time.Hour, -time.Hour, -time.Hour}
	admin := dial(t, etcd.Config{Endpoints: []string{g.etcd}})
	enter := func(i *instance) {
		started := time.Now().Add(lies[slices.Index(i.w.workers, i)])
		data, err := registry.Encode(registry.Instance{
			ID: "liar-" + strings.ReplaceAll(i.host, ".", "-"), Service: workService, State: registry.Up, Started: started,
			Endpoints: map[string]string{"grpc": i.addr},
		})
		if err == nil {
			_, err = admin.Put(t.Context(), i.w.prefix(workService)+"liar-"+strings.ReplaceAll(i.host, ".", "-"), string(data))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, rate: silenceRate, enter: enter, tune: func(_ int, s *callerSpec) { s.NonIdempotent = 0.5 }})
	open := w.census()
	// Those that have just started, by a clock that is right, are spared for 10 s. One
	// that is ahead may not make that longer, one that is behind may make it shorter.
	const spared = 10 * time.Second
	rounds := count(2, 1)
	for round := range rounds {
		if round > 0 {
			// The same processes with other lies: for a client others in the same place.
			slices.Reverse(lies)
			for _, i := range w.workers {
				enter(i)
			}
		}
		from := time.Now()
		if round == 0 {
			from = w.begun
		}
		pass(t, time.Until(from.Add(spared+pick(20*time.Second, 5*time.Second))))
		end := time.Now()
		calls := w.ledger.made(from, end)
		fair := 1 / float64(len(w.workers))
		for _, group := range []struct {
			name string
			lie  time.Duration
		}{{"right", 0}, {"1 h ahead", time.Hour}, {"1 h behind", -time.Hour}} {
			var of []*instance
			for n, i := range w.workers {
				if lies[n] == group.lie {
					of = append(of, i)
				}
			}
			least := slimmest(calls, from.Add(spared), end, of) / fair
			share := 0.6 - scatter(0.6, len(w.ledger.made(from.Add(spared), end))/len(w.workers))
			w.timed(least >= share, fmt.Sprintf("those that start by a clock that is %s have their share after 10 s (at least 60 %%)", group.name), "the least has %.0f %%", 100*least)
		}
		w.outcome(len(calls.lost()) <= w.mayLose(0), "no call is lost", "%d of %d", len(calls.lost()), len(calls))
	}
	out := w.ledger.told("InstanceEjected", w.begun, time.Now())
	w.outcome(len(out) == 0, "nobody is ejected", "ejections: %s", reasons(out))

	dir := t.TempDir()
	var ids []string
	for _, i := range w.workers {
		ids = append(ids, "liar-"+strings.ReplaceAll(i.host, ".", "-"))
	}
	w.keeps(dir, ids)
	for _, lie := range []time.Duration{0, time.Hour, -time.Hour} {
		have, err := w.remembers(dir, lie)
		w.check(have == len(ids), fmt.Sprintf("a client that starts while etcd is down has the list that was saved (dated by a clock that is %v off)", lie), "%d of %d instances, %v", have, len(ids), err)
	}
	w.leavesNothing(open)
	w.finish(fleetRow{id: "F24", variant: "lies", what: "instances say that they started an hour from now, or an hour ago, or tell the truth; lists on disk are dated by such clocks; half of the calls idempotent"})
}

// keeps has a client's list saved in a directory.
func (w *fleetWorld) keeps(dir string, ids []string) {
	w.t.Helper()
	reg := etcd.Open(dial(w.t, etcd.Config{Endpoints: []string{w.spec.etcd}}), etcd.WithNamespace(w.namespace()), etcd.WithRegistry(registry.WithSnapshots(dir)))
	defer reg.Close()
	go func() {
		for range reg.Watch(w.t.Context(), workService) { // until the registry is closed
		}
	}()
	eventually(w.t, 20*time.Second, "the list is on disk", func() error { return saved(dir, ids) })
}

// remembers returns how many instances a client has that starts from a copy of such a
// directory, whose lists are dated a lie later, while etcd is down; and what it has to
// say about the list if it does not take it.
func (w *fleetWorld) remembers(dir string, lie time.Duration) (have int, rejected error) {
	w.t.Helper()
	copied := filepath.Join(w.t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		w.t.Fatal(err)
	}
	err := filepath.WalkDir(copied, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return redate(path, time.Now().Add(lie))
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var mu sync.Mutex
	reg := etcd.Open(dial(w.t, etcd.Config{Endpoints: []string{newHost() + ":2379"}}), etcd.WithNamespace(w.namespace()),
		etcd.WithRegistry(registry.WithSnapshots(copied), registry.WithEvents(func(e registry.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e, ok := e.(registry.SnapshotRejected); ok {
				rejected = e.Err
			}
		})))
	defer reg.Close()
	for snapshot := range reg.Watch(w.t.Context(), workService) {
		mu.Lock()
		defer mu.Unlock()
		return len(snapshot.Instances), rejected
	}
	return 0, errors.New("the watch has ended")
}

// redate changes the date of a list on disk.
func redate(path string, at time.Time) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	list := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	if list["at"] == nil {
		return fmt.Errorf("%s has no date", path)
	}
	if list["at"], err = json.Marshal(at); err != nil {
		return err
	}
	if data, err = json.Marshal(list); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
