package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/goleak"

	"plinth.internal/internal/loopback"
	"plinth.internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	jar     = "/usr/share/java/zookeeper.jar"
	skipEnv = "PLINTH_SKIP_ZOOKEEPER"
)

// server is a ZooKeeper that a test stops and starts on one address.
type server struct {
	t    *testing.T
	dir  string
	addr string
	// maxSession is the longest session timeout that the server grants.
	maxSession time.Duration
	process    *exec.Cmd
}

// newServer starts a ZooKeeper; it is killed at the end of the test.
func newServer(t *testing.T) *server { return newServerWith(t, time.Minute) }

func newServerWith(t *testing.T, maxSession time.Duration) *server {
	t.Helper()
	if os.Getenv(skipEnv) != "" {
		t.Skip("skipped, because " + skipEnv + " is set")
	}
	_, err := os.Stat(jar)
	if err == nil {
		_, err = exec.LookPath("java")
	}
	if err != nil {
		t.Fatalf("these tests need a real ZooKeeper: %v\n"+
			"install Debian's packages: apt-get install -y --no-install-recommends libzookeeper-java default-jre-headless\n"+
			"or leave them out by setting %s=1", err, skipEnv)
	}
	addr, err := addresses.Next()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, dir: t.TempDir(), addr: addr, maxSession: maxSession}
	s.start()
	t.Cleanup(s.stop)
	return s
}

var addresses loopback.Addresses

func (s *server) data() string { return filepath.Join(s.dir, "data") }

func (s *server) start() {
	s.t.Helper()
	if s.process != nil {
		return
	}
	host, port, _ := strings.Cut(s.addr, ":")
	config := filepath.Join(s.dir, "zoo.cfg")
	err := os.WriteFile(config, fmt.Appendf(nil, `dataDir=%s
clientPort=%s
clientPortAddress=%s
tickTime=200
minSessionTimeout=400
maxSessionTimeout=%d
maxClientCnxns=0
admin.enableServer=false
`, s.data(), port, host, s.maxSession.Milliseconds()), 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = exec.Command("java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
		"-Dzookeeper.forceSync=no", "-Dzookeeper.preAllocSize=64",
		"-cp", jar, "org.apache.zookeeper.server.ZooKeeperServerMain", config)
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	within(s.t, 30*time.Second, "answer of the ZooKeeper that was started", func() bool {
		conn, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err != nil {
			return false
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprint(conn, "srvr")
		answer, err := io.ReadAll(conn)
		return err == nil && strings.Contains(string(answer), "Zookeeper version")
	})
}

// stop kills the server as a crash would.
func (s *server) stop() {
	if s.process == nil {
		return
	}
	s.process.Process.Kill()
	s.process.Wait() // says that it was killed
	s.process = nil
}

// wipe forgets all data of a server that is stopped.
func (s *server) wipe() {
	s.t.Helper()
	if err := os.RemoveAll(s.data()); err != nil {
		s.t.Fatal(err)
	}
}

// open returns a registry that is closed at the end of the test.
func (s *server) open(opts ...Option) *registry.Registry {
	s.t.Helper()
	return openOn(s.t, s.addr, opts...)
}

func openOn(t *testing.T, addr string, opts ...Option) *registry.Registry {
	t.Helper()
	reg, err := Open([]string{addr}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	return reg
}

// client returns a plain client, closed at the end of the test.
func (s *server) client() *zk.Conn {
	s.t.Helper()
	client, events, err := zk.Connect([]string{s.addr}, 10*time.Second, zk.WithLogger(silent{}), zk.WithLogInfo(false))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		client.Close()
		for range events {
		}
	})
	return client
}

const testPath = "/plinth/services/orders/o-1"

func testInstance() registry.Instance {
	return registry.Instance{ID: "o-1", Service: "orders", Endpoints: map[string]string{"grpc": "10.0.0.1:9000"}, Weight: 10}
}

// put writes a node as another program would; nil deletes it.
func put(t *testing.T, client *zk.Conn, node string, value []byte) {
	t.Helper()
	var err error
	if value == nil {
		err = client.Delete(node, -1)
	} else if _, err = client.Set(node, value, -1); errors.Is(err, zk.ErrNoNode) {
		parts := strings.Split(node, "/")
		for i := 2; i < len(parts); i++ {
			if _, err := client.Create(strings.Join(parts[:i], "/"), nil, 0, acl); err != nil && !errors.Is(err, zk.ErrNodeExists) {
				t.Fatal(err)
			}
		}
		_, err = client.Create(node, value, 0, acl)
	}
	if err != nil {
		t.Fatalf("write %s: %v", node, err)
	}
}

// exists reports whether there is a node, and in which session.
func exists(t *testing.T, client *zk.Conn, node string) (owner int64, ok bool) {
	t.Helper()
	ok, stat, err := client.Exists(node)
	if err != nil {
		return 0, false
	}
	return stat.EphemeralOwner, ok
}

// within polls until ok, and returns how long that took.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > limit {
			t.Fatalf("no %s within %v", what, limit)
		}
		<-tick.C
	}
	return time.Since(began)
}

// view follows a watch; the latest update is in last.
type view struct {
	mu      sync.Mutex
	last    registry.Snapshot
	err     error
	emptied bool // after a list that was not empty
}

func follow(t *testing.T, reg *registry.Registry) *view {
	t.Helper()
	v := &view{}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for snapshot, err := range reg.Watch(ctx, "orders") {
			v.mu.Lock()
			v.emptied = v.emptied || len(v.last.Instances) > 0 && len(snapshot.Instances) == 0
			v.last, v.err = snapshot, err
			v.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return v
}

func (v *view) load() (registry.Snapshot, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last, v.err
}

// has reports whether the latest list is good and has an instance of that ID.
func (v *view) has(id string) bool {
	snapshot, err := v.load()
	for _, inst := range snapshot.Instances {
		if inst.ID == id {
			return err == nil
		}
	}
	return false
}
