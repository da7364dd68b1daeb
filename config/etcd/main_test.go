package etcd

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"plinth.internal/config"
	"plinth.internal/internal/loopback"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/etcd/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

var addresses loopback.Addresses

// server is an etcd that a test stops and starts on one address.
type server struct {
	t       testing.TB
	dir     string
	addr    string
	running *embedded.Server
}

func newServer(t testing.TB) *server {
	t.Helper()
	addr, err := addresses.Next()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, dir: t.TempDir(), addr: addr}
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() *server {
	s.t.Helper()
	running, err := embedded.Start(s.dir, embedded.WithClientAddr(s.addr))
	if err != nil {
		s.t.Fatal(err)
	}
	s.running = running
	return s
}

func (s *server) stop() {
	if s.running != nil {
		s.running.Close()
	}
	s.running = nil
}

// dial returns a client as the framework makes it, closed at the end of the test.
func (s *server) dial(user string) *clientv3.Client {
	s.t.Helper()
	cfg := etcd.Config{Endpoints: []string{s.addr}}
	if user != "" {
		cfg.Username, cfg.Password = user, "secret"
	}
	client, err := etcd.Dial(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { client.Close() })
	return client
}

// open returns a feed with a client of its own, closed at the end of the test.
func (s *server) open(service string) *Feed {
	s.t.Helper()
	f := Open(s.dial(""), service)
	s.t.Cleanup(func() { f.Close() })
	return f
}

// put writes a document past the store, or deletes it for an empty value.
func put(t testing.TB, client *clientv3.Client, name, value string) int64 {
	t.Helper()
	op := clientv3.OpPut(documentKey(DefaultNamespace, name), value)
	if value == "" {
		op = clientv3.OpDelete(documentKey(DefaultNamespace, name))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	response, err := client.Do(ctx, op)
	if err != nil {
		t.Fatal(err)
	}
	if value == "" {
		return response.Del().Header.GetRevision()
	}
	return response.Put().Header.GetRevision()
}

// await waits until the documents of a feed are as wanted, and returns how long that
// took.
func await(t testing.TB, f *Feed, what string, ok func(all, own config.Document) bool) time.Duration {
	t.Helper()
	began := time.Now()
	limit := time.After(patience)
	for {
		changed := f.Changed()
		documents := f.Documents()
		if ok(documents[0], documents[1]) {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("not within %v: %s; the documents are %+v", patience, what, documents)
		}
	}
}

// says is a condition for [await]: both documents are known and say this.
func says(all, own string) func(a, o config.Document) bool {
	return func(a, o config.Document) bool {
		return a.Err == nil && o.Err == nil && string(a.Data) == all && string(o.Data) == own
	}
}

// unreachable is a condition for [await]: neither document could be read.
func notRead(a, o config.Document) bool {
	return errors.Is(a.Err, config.ErrUnreachable) && errors.Is(o.Err, config.ErrUnreachable)
}
