package etcd

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/config"
)

func TestFeed(t *testing.T) {
	t.Parallel()
	s := newServer(t).start()
	client := s.dial("")
	put(t, client, "default", "a: 1")
	revision := put(t, client, "orders", "b: 1")
	put(t, client, "orders-archive", "c: 1")
	f := s.open("orders")
	await(t, f, "the start", says("a: 1", "b: 1"))
	d := f.Documents()
	if d[0].Name != "etcd /plinth/config/default" || !d[0].Shared || d[1].Name != "etcd /plinth/config/orders" || d[1].Shared || d[1].Revision != revision {
		t.Errorf("documents %+v", d)
	}
	if f.Err() != nil {
		t.Error(f.Err())
	}
	put(t, client, "orders", "b: 2")
	if took := await(t, f, "a change", says("a: 1", "b: 2")); took > time.Second {
		t.Errorf("a change took %v", took)
	}
	put(t, client, "default", "")
	await(t, f, "a deletion", says("", "b: 2"))
	if d := f.Documents()[0]; d.Revision != 0 || d.Data != nil {
		t.Errorf("a deleted document: %+v", d)
	}
	put(t, client, "default", "a: 3")
	await(t, f, "a document that comes back", says("a: 3", "b: 2"))

	// Both in one transaction are never seen apart.
	for i := range 20 {
		both := strings.Repeat("x", i)
		_, err := client.Txn(t.Context()).Then(
			clientv3.OpPut("/plinth/config/default", "a: 4"+both), clientv3.OpPut("/plinth/config/orders", "b: 4"+both)).Commit()
		if err != nil {
			t.Fatal(err)
		}
		await(t, f, "both", func(a, o config.Document) bool {
			if strings.TrimPrefix(string(a.Data), "a: ") != strings.TrimPrefix(string(o.Data), "b: ") && i > 0 {
				t.Errorf("half of a transaction: %s, %s", a.Data, o.Data)
			}
			return string(o.Data) == "b: 4"+both
		})
	}
}

// TestFeedFaults: an etcd that is not there, that goes, comes back, has compacted its
// history, and has lost its data.
func TestFeedFaults(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	f := s.open("orders")
	if took := await(t, f, "that nobody answers", notRead); took > time.Second {
		t.Errorf("it is noticed after %v", took)
	}
	if f.Err() == nil || !strings.Contains(f.Err().Error(), "is it running") {
		t.Errorf("error %v", f.Err())
	}
	s.start()
	client := s.dial("")
	put(t, client, "default", "a: 1")
	put(t, client, "orders", "b: 1")
	await(t, f, "the documents, once there is an etcd", says("a: 1", "b: 1"))
	if f.Err() != nil {
		t.Error(f.Err())
	}

	s.stop()
	eventually(t, "that it is lost", func() bool { return f.Err() != nil })
	if !says("a: 1", "b: 1")(f.Documents()[0], f.Documents()[1]) {
		t.Errorf("the documents of before are not kept: %+v", f.Documents())
	}
	s.start()
	last := put(t, client, "orders", "b: 2")
	await(t, f, "a change after a restart", says("a: 1", "b: 2"))

	s.stop()
	eventually(t, "that it is lost", func() bool { return f.Err() != nil })
	s.start()
	for range 5 {
		last = put(t, client, "orders", "b: 3")
	}
	put(t, client, "default", "")
	if _, err := client.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	await(t, f, "what happened meanwhile, a deletion too", says("", "b: 3"))

	// A wipe is not an operator who changed his mind.
	s.stop()
	s.dir = t.TempDir()
	s.start()
	await(t, f, "that the data is lost", func(a, o config.Document) bool {
		return a.Err == nil && o.Err != nil && strings.Contains(o.Err.Error(), "has lost its data")
	})
	put(t, client, "default", "a: 9")
	await(t, f, "another document", func(a, o config.Document) bool { return string(a.Data) == "a: 9" && isLost(o.Err) })
	put(t, client, "orders", "b: 4")
	await(t, f, "the document written again", says("a: 9", "b: 4"))
	put(t, client, "orders", "")
	await(t, f, "that it is deleted", says("a: 9", ""))
}

// TestConfigOverFaults: what was good last stays in use, whatever becomes of etcd.
func TestConfigOverFaults(t *testing.T) {
	t.Parallel()
	type limits struct {
		PerUser int `yaml:"per_user"`
	}
	s := newServer(t).start()
	client := s.dial("")
	put(t, client, "orders", "limits: {per_user: 5}\n")
	c, err := config.Load()
	if err != nil {
		t.Fatal(err)
	}
	v, err := config.Watch(c, "limits", limits{PerUser: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Attach(config.Central{Feed: s.open("orders")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.Settle(ctx, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Follow(ctx, nil)
	}()
	defer func() { cancel(); <-done }()
	if v.Get().PerUser != 5 {
		t.Fatalf("%+v at the start", v.Get())
	}
	s.stop()
	s.dir = t.TempDir()
	s.start()
	eventually(t, "that it is told", func() bool {
		err := c.Status().Err
		return err != nil && strings.Contains(err.Error(), "lost its data")
	})
	if v.Get().PerUser != 5 {
		t.Errorf("%+v after a wipe", v.Get())
	}
	put(t, client, "orders", "# nothing any more\n")
	eventually(t, "the empty document", func() bool { return c.Status().Err == nil && v.Get().PerUser == 1 })
}

// TestDocumentedRole: what docs/etcd.md lists is enough, and less is told.
func TestDocumentedRole(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/etcd.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t).start()
	root := s.dial("")
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"orders", "operator", "nobody", "root"} {
		must(root.RoleAdd(ctx, name))
		must(root.UserAdd(ctx, name, "secret"))
		must(root.UserGrantRole(ctx, name, name))
	}
	granted := 0
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(strings.TrimPrefix(line, "etcdctl role grant-permission "))
		if !strings.HasPrefix(line, "etcdctl role grant-permission ") || !strings.Contains(line, "/config") {
			continue
		}
		granted++
		key, end, kind := words[len(words)-1], "", clientv3.PermissionType(clientv3.PermRead)
		if strings.Contains(line, "--prefix=true") {
			end = clientv3.GetPrefixRangeEnd(key)
		}
		if strings.Contains(line, "readwrite") {
			kind = clientv3.PermissionType(clientv3.PermReadWrite)
		}
		must(root.RoleGrantPermission(ctx, words[0], key, end, kind))
	}
	if granted != 4 {
		t.Fatalf("docs/etcd.md grants %d permissions for the documents", granted)
	}
	put(t, root, "orders", "b: 1")
	must(root.AuthEnable(ctx))

	f := Open(s.dial("orders"), "orders")
	defer f.Close()
	await(t, f, "the documents", says("", "b: 1"))
	store := NewStore(s.dial("operator"), "")
	for i := range 3 {
		now, err := store.Get(ctx, "orders")
		if err != nil {
			t.Fatal(err)
		}
		must(store.Put(ctx, "orders", []byte("b: 2"+strings.Repeat("2", i)), now.Revision, "ann", ""))
	}
	await(t, f, "a change", says("", "b: 222"))
	must(store.History(ctx, "orders"))

	refused := Open(s.dial("nobody"), "orders")
	defer refused.Close()
	await(t, refused, "the refusal", func(a, _ config.Document) bool {
		return a.Err != nil && strings.Contains(a.Err.Error(), `to user "nobody", grant its role what docs/etcd.md lists`)
	})
}

// eventually polls for what is not told.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
