//go:build linux

package chaos_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// testKilledTogether takes two of three instances away while etcd is down: only
// their connections can say that they are gone.
func testKilledTogether(t *testing.T) {
	outage := pick(20*time.Second, 4*time.Second)
	n := startEtcd(t, newHost())
	w := newWorld(t, []string{n.endpoint()})
	n.process.kill()
	w.watcher.expect(w.ids[2])
	w.services[0].kill()
	w.services[1].kill()
	pass(t, outage)
	answered := n.restart()
	w.ids = w.ids[2:]
	back := w.keysBack(answered)
	// The dead are in the restored etcd until their leases end there, and then
	// in quarantine until somebody finds that they do not answer.
	eventually(t, 2*w.ttl+20*time.Second, "the dead are no longer in the client's list", func() error { return w.watcher.sees(w.ids...) })
	// Calls that a dying process had received cannot be repeated.
	w.finish(row{scenario: fmt.Sprintf("two of three instances killed while etcd is down for %v", outage), back: back, change: w.changeSeen(), mayLose: 10})
}

// testRolledUnseen replaces all instances while the client is cut off from
// etcd. Its calls cannot but fail then; they must do so at once and say why.
func testRolledUnseen(t *testing.T) {
	n := startEtcd(t, newHost())
	p := startProxy(t, n.endpoint())
	w := newWorld(t, []string{n.endpoint()}, func(o *worldOptions) { o.seen = []string{p.addr()} })
	p.block()
	var replaced []*process
	for range w.services {
		replaced = append(replaced, w.startService())
	}
	w.watcher.expect()
	for _, s := range w.services {
		s.terminate()
	}
	ids := w.idsOf(replaced)
	// Wait until the client has noticed that etcd is silent as well.
	pass(t, pick(40*time.Second, 12*time.Second))
	begun := time.Now()
	_, err := say(t.Context(), w.conn)
	took := time.Since(begun)
	if err == nil || took > patience(50*time.Millisecond) || !strings.Contains(err.Error(), "since") {
		t.Errorf("with all known instances gone and etcd silent, a call ended after %v with %v; want within 50ms an error that says since when the list is old", took, err)
	}
	t.Logf("after %v: %v", took, err)
	p.unblock()
	healed := time.Now()
	eventually(t, 20*time.Second, "calls succeed", func() error {
		_, err := say(t.Context(), w.conn)
		return err
	})
	recovered := time.Since(healed)
	if recovered > patience(backWithin) {
		t.Errorf("calls succeeded %v after the client had etcd again, want at most %v", recovered, backWithin)
	}
	eventually(t, 20*time.Second, "the client calls all new instances", func() error {
		for _, id := range ids {
			if w.load.answered(id) == 0 {
				return errors.New(id + " has answered none")
			}
		}
		return nil
	})
	w.load.end()
	w.finish(row{scenario: "all instances replaced while the client is cut off from etcd", back: never, change: recovered, mayLose: w.load.lost})
}
