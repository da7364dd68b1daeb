//go:build linux

package chaos_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"plinth.internal/internal/loopback"
	"plinth.internal/registry/etcd"
)

// node is one member of an etcd that a test treats badly. It keeps its address
// and its data over its deaths.
type node struct {
	t       *testing.T
	host    string
	dir     string
	args    []string
	env     []string
	program string // the test binary, or another build of it
	process *process
}

var addresses loopback.Addresses

// newHost returns an address of the loopback network that nobody else uses:
// there, an etcd that is down cannot lose its port to somebody else.
func newHost() string { return addresses.Host() }

// startEtcd starts an etcd of one member and waits until it answers.
func startEtcd(t *testing.T, host string, args ...string) *node {
	t.Helper()
	// Fast ticks: it is about what follows an outage, not how long etcd takes.
	args = append([]string{"--heartbeat-interval=20", "--election-timeout=200"}, args...)
	n := newNode(t, "default", host, args...)
	n.start()
	n.answers()
	return n
}

// startCluster starts an etcd of three members and waits until it answers.
func startCluster(t *testing.T) []*node {
	t.Helper()
	hosts := []string{newHost(), newHost(), newHost()}
	var peers []string
	for i, host := range hosts {
		peers = append(peers, fmt.Sprintf("m%d=http://%s:2380", i, host))
	}
	var nodes []*node
	for i, host := range hosts {
		nodes = append(nodes, newNode(t, fmt.Sprintf("m%d", i), host, "--initial-cluster="+strings.Join(peers, ",")))
	}
	for _, n := range nodes {
		n.start()
	}
	for _, n := range nodes {
		n.answers()
	}
	return nodes
}

func newNode(t *testing.T, name, host string, args ...string) *node {
	client, peer := "http://"+host+":2379", "http://"+host+":2380"
	n := &node{t: t, host: host, program: os.Args[0], dir: filepath.Join(t.TempDir(), "data")}
	n.args = append([]string{
		"--name=" + name, "--data-dir=" + n.dir,
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + name + "=" + peer,
		"--log-level=warn", "--unsafe-no-fsync", // the disk is not what is tested
	}, args...)
	return n
}

func (n *node) endpoint() string { return n.host + ":2379" }

func (n *node) start() {
	n.t.Helper()
	n.process = launchProgram(n.t, n.program, nil, roleEtcd, "", n.env, n.args...)
}

// answers waits for the first answer of etcd and returns when that came.
func (n *node) answers() time.Time {
	n.t.Helper()
	eventually(n.t, 20*time.Second, "etcd listens", func() error {
		conn, err := net.DialTimeout("tcp", n.endpoint(), time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	// It listens some time before it answers. An error is an answer, too: it
	// may want to know who we are.
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{n.endpoint()}, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{grpc.WithDisableRetry()}})
	if err != nil {
		n.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	if _, err := client.Get(ctx, "x"); ctx.Err() != nil {
		n.t.Fatalf("etcd at %s does not answer: %v", n.endpoint(), err)
	}
	return time.Now()
}

// restart starts an etcd that was killed, and returns when it answered.
func (n *node) restart() time.Time {
	n.t.Helper()
	n.start()
	return n.answers()
}

// wipe takes the data away from an etcd that was killed.
func (n *node) wipe() {
	n.t.Helper()
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Fatal(err)
	}
}

// copyData returns a directory with the data of an etcd that was killed.
func (n *node) copyData() string {
	n.t.Helper()
	dir := filepath.Join(n.t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(n.dir)); err != nil {
		n.t.Fatal(err)
	}
	return dir
}

// restore puts such a directory in the place of the data.
func (n *node) restore(dir string) {
	n.t.Helper()
	n.wipe()
	if err := os.Rename(dir, n.dir); err != nil {
		n.t.Fatal(err)
	}
	// The directories of a copy are too open for etcd's taste.
	if err := os.Chmod(n.dir, 0o700); err != nil {
		n.t.Fatal(err)
	}
}

// dial returns a client that is closed at the end of the test.
func dial(t *testing.T, cfg etcd.Config) *clientv3.Client {
	t.Helper()
	c, err := etcd.Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
