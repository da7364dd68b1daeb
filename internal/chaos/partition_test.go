//go:build linux

package chaos_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// island is a network namespace for services. It reaches the test at one
// address and etcd at another, and can lose its way to etcd alone.
type island struct {
	t    *testing.T
	name string
	host string // of the services
	etcd string // of etcd, as seen from the island
}

// newIsland makes the namespace, or skips the test where that is impossible.
func newIsland(t *testing.T) *island {
	t.Helper()
	pid := os.Getpid()
	subnet := fmt.Sprintf("10.213.%d.", pid%256)
	i := &island{t: t, name: fmt.Sprintf("chaos%d", pid), host: subnet + "9", etcd: subnet + "3"}
	outer := i.name // the end of its wire that stays here
	i.need("netns add " + i.name)
	t.Cleanup(func() { i.ip("netns delete " + i.name) })
	i.need("link add " + outer + " type veth peer name eth0 netns " + i.name)
	t.Cleanup(func() { i.ip("link delete " + outer) })
	for _, command := range []string{
		"addr add " + subnet + "1/24 dev " + outer, // the client's: the first is what it calls from
		"addr add " + i.etcd + "/24 dev " + outer,
		"link set " + outer + " up",
		"-n " + i.name + " addr add " + i.host + "/24 dev eth0",
		"-n " + i.name + " link set eth0 up",
		"-n " + i.name + " link set lo up",
	} {
		i.ip(command)
	}
	return i
}

func (i *island) ip(command string) {
	i.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		i.t.Fatalf("ip %s: %v: %s", command, err, out)
	}
}

// need runs a command that not every kernel, container or user may run.
func (i *island) need(command string) {
	i.t.Helper()
	out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput()
	if err == nil {
		return
	}
	explain := fmt.Sprintf("NO PARTITION WAS TESTED: it needs root, network namespaces and the command ip (package iproute2): ip %s: %v: %s", command, err, out)
	if os.Getenv("CI") == "true" {
		i.t.Fatal(explain)
	}
	i.t.Skip(explain)
}

// cut loses every packet to etcd without a word: they go to a machine that
// does not exist. Connections stay open and nobody gets an error.
func (i *island) cut() {
	i.t.Helper()
	i.ip("-n " + i.name + " neigh replace " + i.etcd + " lladdr 02:00:00:00:00:01 nud permanent dev eth0")
}

// heal finds the way again.
func (i *island) heal() {
	i.t.Helper()
	i.ip("-n " + i.name + " neigh delete " + i.etcd + " dev eth0")
}

// testPartition cuts the services, and not the client, off from etcd for
// longer than their leases live.
func testPartition(t *testing.T) {
	i := newIsland(t)
	n := startEtcd(t, i.etcd)
	w := newWorld(t, []string{n.endpoint()}, func(o *worldOptions) { o.netns, o.host = i.name, i.host })
	outage := pick(60*time.Second, w.ttl+4*time.Second)
	i.cut()
	pass(t, outage)
	if entries, err := w.entries(); err != nil || len(entries) != 0 {
		t.Errorf("the leases have not expired behind the partition: %v, %v", entries, err)
	}
	i.heal()
	w.finish(row{scenario: fmt.Sprintf("services cut off from etcd for %v", outage), back: w.keysBack(time.Now()), limit: 5 * time.Second, change: w.changeSeen()})
}
