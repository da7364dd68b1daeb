//go:build linux

package chaos_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"plinth.internal/client"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
)

const (
	servicesPrefix = "/plinth/services/"
	echoPrefix     = servicesPrefix + echoService + "/"
)

// What every scenario is held to.
const (
	backWithin    = 2 * time.Second // the keys, after etcd answers again
	changesWithin = 5 * time.Second // a change after the disaster, in the client's list
)

// world is what a scenario plays with: an etcd, three instances of a service,
// and a client that calls them 200 times a second while its list is watched.
type world struct {
	t        *testing.T
	ttl      time.Duration
	endpoint []string // of etcd, for services
	env      []string // of services
	settings []string // of services
	netns    string   // of services
	host     string   // that services listen on

	admin    *clientv3.Client // the test's own look into etcd
	services []*process
	ids      []string // of the services
	reg      *registry.Registry
	conn     *grpc.ClientConn
	load     *load
	watcher  *watcher
}

type worldOption func(*worldOptions)

type worldOptions struct {
	access   etcd.Config // of the client, other than its endpoints
	admin    etcd.Config
	seen     []string // etcd as the client sees it, if not directly
	netns    string
	host     string
	env      []string
	settings []string
	registry []registry.Option // of the client
}

// newWorld starts services and the client; etcd is there already.
func newWorld(t *testing.T, endpoints []string, opts ...worldOption) *world {
	t.Helper()
	o := worldOptions{host: "127.0.0.1", seen: endpoints}
	for _, opt := range opts {
		opt(&o)
	}
	w := &world{t: t, ttl: pick(registry.DefaultTTL, 2*time.Second), endpoint: endpoints, env: o.env, settings: o.settings, netns: o.netns, host: o.host}
	o.admin.Endpoints = endpoints
	w.admin = dial(t, o.admin)
	for range 3 {
		w.services = append(w.services, w.startService())
	}
	w.ids = w.idsOf(w.services)

	o.access.Endpoints = o.seen
	w.reg = etcd.Open(dial(t, o.access), etcd.WithRegistry(o.registry...))
	t.Cleanup(func() { _ = w.reg.Close() })
	c, err := client.New(w.reg, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{TLS: &client.TLS{Mode: client.TLSInsecure}} // in a network of its own they are not on loopback
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if w.conn, err = c.Conn(echoService); err != nil {
		t.Fatal(err)
	}
	w.watcher = startWatcher(t, w.reg)
	eventually(t, 20*time.Second, "the client sees all instances", func() error { return w.watcher.sees(w.ids...) })
	w.watcher.expect(w.ids...)
	w.load = startLoad(w.conn)
	t.Cleanup(w.load.end)
	eventually(t, 20*time.Second, "all instances answer calls", func() error {
		for _, id := range w.ids {
			if w.load.answered(id) == 0 {
				return fmt.Errorf("%s has answered none", id)
			}
		}
		return nil
	})
	return w
}

func (w *world) startService() *process {
	w.t.Helper()
	settings := append([]string{"registry.endpoints=" + strings.Join(w.endpoint, ","), "registry.ttl=" + w.ttl.String()}, w.settings...)
	return startService(w.t, w.netns, w.host, w.env, settings...)
}

// entries are the instances in etcd by the address where they listen. An entry
// that is no instance, or has no lease, is none.
func (w *world) entries() (map[string]registry.Instance, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
	defer cancel()
	response, err := w.admin.Get(ctx, echoPrefix, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	out := map[string]registry.Instance{}
	for _, kv := range response.Kvs {
		inst, err := registry.Decode(echoService, strings.TrimPrefix(string(kv.GetKey()), echoPrefix), kv.GetValue())
		if err == nil && kv.GetLease() != 0 {
			out[inst.Endpoints["grpc"]] = inst
		}
	}
	return out, nil
}

// idsOf waits until the services are in etcd and returns their IDs.
func (w *world) idsOf(services []*process) []string {
	w.t.Helper()
	var ids []string
	eventually(w.t, 20*time.Second, "all services are in etcd", func() error {
		entries, err := w.entries()
		ids = nil
		for _, s := range services {
			inst, ok := entries[s.addr()]
			if err == nil && !ok {
				err = fmt.Errorf("%s is not", s.addr())
			}
			ids = append(ids, inst.ID)
		}
		return err
	})
	return ids
}

// keysBack looks at the keys of the instances until they have been there, all
// of them and without a break, for as long as a forgotten lease could still
// take one away. It returns how long after begun the last one was missing: 0
// if none ever was.
func (w *world) keysBack(begun time.Time) time.Duration {
	w.t.Helper()
	calm := w.ttl + 2*time.Second
	var back time.Duration
	whole := time.Time{} // since when
	eventually(w.t, 2*w.ttl+30*time.Second, "the keys of all instances are in etcd and stay there", func() error {
		entries, err := w.entries()
		if err == nil {
			var ids []string
			for _, inst := range entries {
				if inst.State == registry.Up {
					ids = append(ids, inst.ID)
				}
			}
			for _, id := range w.ids {
				if !slices.Contains(ids, id) {
					err = fmt.Errorf("%s is not in etcd", id)
				}
			}
		}
		if err != nil {
			back, whole = time.Since(begun), time.Time{}
			return err
		}
		if whole.IsZero() {
			whole = time.Now()
		}
		if time.Since(whole) < calm {
			return errors.New("not for long enough yet")
		}
		return nil
	})
	return back
}

// changeSeen starts one more instance and returns how long after its key was
// written the client had it in its list.
func (w *world) changeSeen() time.Duration {
	w.t.Helper()
	s := w.startService()
	id := w.idsOf([]*process{s})[0]
	took := eventually(w.t, 20*time.Second, "the client sees a new instance", func() error { return w.watcher.has(id) })
	w.t.Logf("a change made afterwards was seen after %v", took)
	if took > patience(changesWithin) {
		w.t.Errorf("a change made afterwards was seen after %v, want at most %v", took, changesWithin)
	}
	eventually(w.t, 20*time.Second, "the new instance gets calls", func() error {
		if w.load.answered(id) == 0 {
			return errors.New("it has answered none")
		}
		return nil
	})
	w.services = append(w.services, s)
	return took
}

// never stands for a time that a scenario has nothing to say about.
const never time.Duration = -1

// finish ends the load, holds the outcome to what is promised, and adds it to
// the report.
func (w *world) finish(r row) {
	w.t.Helper()
	w.load.end()
	w.watcher.end()
	r.ttl, r.hole, r.calls, r.lost, r.slowest = w.ttl, w.watcher.hole, w.load.calls, w.load.lost, w.load.slowest
	w.t.Logf("back %v, hole %v, %d calls, %d lost, slowest %v", r.back, r.hole, r.calls, r.lost, r.slowest)
	if limit := patience(cmp.Or(r.limit, backWithin)); r.back > limit {
		w.t.Errorf("the keys were back after %v, want at most %v", r.back, limit)
	}
	if w.watcher.emptied {
		w.t.Error("the client saw an empty list")
	}
	mayLose := r.mayLose
	if raced {
		mayLose += r.calls / 20 // a second without the CPU is a call that timed out
	}
	if r.lost > mayLose {
		w.t.Errorf("%d of %d calls were lost, want at most %d; the first: %s", r.lost, r.calls, mayLose, strings.Join(w.load.failures, "; "))
	}
	if r.calls < 100 {
		w.t.Errorf("only %d calls were made, which shows nothing", r.calls)
	}
	record(r)
}
