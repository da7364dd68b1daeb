//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"plinth.internal/client"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
)

// testStartWithoutEtcd starts a service and a client while etcd is down. The
// client knows the instances from what an earlier one left on disk.
func testStartWithoutEtcd(t *testing.T) {
	n := startEtcd(t, newHost())
	dir := t.TempDir()
	w := newWorld(t, []string{n.endpoint()}, func(o *worldOptions) {
		o.registry = []registry.Option{registry.WithSnapshots(dir)}
	})
	eventually(t, 10*time.Second, "the client's list is on disk", func() error { return saved(dir, w.ids) })
	n.process.kill()

	newcomer := w.startService()
	direct, err := grpc.NewClient(newcomer.addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	if _, err := say(t.Context(), direct); err != nil {
		t.Errorf("a service that was started while etcd was down does not serve: %v", err)
	}

	begun := time.Now()
	reg := etcd.Open(dial(t, etcd.Config{Endpoints: []string{n.endpoint()}}), etcd.WithRegistry(registry.WithSnapshots(dir)))
	defer reg.Close()
	c, err := client.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := c.Conn(echoService)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := say(ctx, conn); err != nil {
		t.Fatalf("a client that was started while etcd was down cannot call: %v", err)
	}
	first := time.Since(begun)
	t.Logf("a client that was started while etcd was down made its first call within %v", first)
	if first > patience(time.Second) {
		t.Errorf("a client that was started while etcd was down made its first call after %v, want at most 1s", first)
	}
	calls := startLoad(conn)
	defer calls.end()
	list := startWatcher(t, reg)
	eventually(t, 5*time.Second, "the new client has the list from disk", func() error { return list.sees(w.ids...) })
	list.expect(w.ids...)

	pass(t, pick(30*time.Second, 2*time.Second))
	answered := n.restart()
	back := w.keysBack(answered)
	id := w.idsOf([]*process{newcomer})[0]
	eventually(t, changesWithin, "the new client sees the new instance", func() error { return list.has(id) })
	eventually(t, changesWithin, "the new client calls the new instance", func() error {
		if calls.answered(id) == 0 {
			return errors.New("it has answered none")
		}
		return nil
	})
	change := w.changeSeen()
	calls.end()
	list.end()
	w.load.end()
	w.load.join(calls)
	w.watcher.end()
	w.watcher.hole, w.watcher.emptied = max(w.watcher.hole, list.hole), w.watcher.emptied || list.emptied
	w.finish(row{scenario: fmt.Sprintf("client and service started while etcd was down (first call after %s)", show(first)), back: back, change: change})
}

// saved returns an error unless a file in dir has all the IDs.
func saved(dir string, ids []string) error {
	err := errors.New("there is no file")
	walk := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, broken error) error {
		if broken != nil || entry.IsDir() {
			return broken
		}
		data, broken := os.ReadFile(path)
		if errors.Is(broken, fs.ErrNotExist) {
			return nil // it was about to be renamed
		}
		if broken != nil {
			return broken
		}
		for _, id := range ids {
			if !strings.Contains(string(data), id) {
				err = fmt.Errorf("%s has no %s", path, id)
				return nil
			}
		}
		err = nil
		return fs.SkipAll
	})
	return errors.Join(walk, err)
}
