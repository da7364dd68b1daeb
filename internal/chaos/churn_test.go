//go:build linux

package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"plinth.internal/client"
	"plinth.internal/client/subset"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
)

// resolve is the client whose CPU time is measured: it holds a connection to
// the service, makes ten calls a second, and says how many failed when
// it is told to stop.
func resolve(args []string) int {
	c, err := etcd.Dial(etcd.Config{Endpoints: args})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	reg := etcd.Open(c)
	cl, err := client.New(reg, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Subset: subset.Config{Size: -1}} // all of them
	}))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	conn, err := cl.Conn(echoService)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for range time.Tick(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if _, err := say(ctx, conn); err != nil {
			fmt.Println("LOST", err)
		}
		cancel()
	}
	return 0
}

// crowd is many instances with an address each, all in the process of the test.
type crowd struct {
	t      *testing.T
	server *grpc.Server
	etcd   *clientv3.Client
	lease  clientv3.LeaseID
	next   int
	wg     sync.WaitGroup
}

// member is one instance of a crowd.
type member struct {
	net.Listener

	instance registry.Instance
	accepted atomic.Int32
	open     atomic.Int32
}

func (m *member) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	m.accepted.Add(1)
	m.open.Add(1)
	return &countedConn{Conn: c, closed: sync.OnceFunc(func() { m.open.Add(-1) })}, nil
}

type countedConn struct {
	net.Conn

	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func newCrowd(t *testing.T, c *clientv3.Client) *crowd {
	t.Helper()
	lease, err := c.Grant(t.Context(), 3600)
	if err != nil {
		t.Fatal(err)
	}
	// As a server of Plinth does: another one would take the client's keepalive
	// for abuse and cut its connections.
	pings := grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true})
	x := &crowd{t: t, server: grpc.NewServer(pings), etcd: c, lease: lease.ID}
	x.server.RegisterService(&echoDesc, echo{func() string { return "crowd" }})
	healthpb.RegisterHealthServer(x.server, health.NewServer())
	t.Cleanup(func() {
		x.server.Stop()
		x.wg.Wait()
	})
	return x
}

// join adds an instance and writes its key.
func (x *crowd) join() *member {
	x.t.Helper()
	x.next++
	l, err := net.Listen("tcp", fmt.Sprintf("127.63.%d.%d:0", x.next/250, x.next%250+1))
	if err != nil {
		x.t.Fatal(err)
	}
	m := &member{Listener: l, instance: registry.Instance{
		ID: "c-" + strconv.Itoa(x.next), Service: echoService, Endpoints: map[string]string{"grpc": l.Addr().String()},
	}}
	x.wg.Go(func() { _ = x.server.Serve(m) }) // its error is that the listener was closed
	x.put(m.instance)
	return m
}

func (x *crowd) put(inst registry.Instance) {
	x.t.Helper()
	value, err := registry.Encode(inst)
	if err != nil {
		x.t.Fatal(err)
	}
	if _, err := x.etcd.Put(x.t.Context(), echoPrefix+inst.ID, string(value), clientv3.WithLease(x.lease)); err != nil {
		x.t.Fatal(err)
	}
}

// leave takes instances away as a drain does: they say so, get no new calls,
// and then are gone.
func (x *crowd) leave(members []*member) {
	x.t.Helper()
	for _, m := range members {
		m.instance.State = registry.Draining
		x.put(m.instance)
	}
	for _, m := range members {
		if _, err := x.etcd.Delete(x.t.Context(), echoPrefix+m.instance.ID); err != nil {
			x.t.Fatal(err)
		}
		_ = m.Close()
	}
}

// testChurn replaces a tenth of many instances again and again.
func testChurn(t *testing.T) {
	size, every, rounds := 1000, 5*time.Second, 24
	if !*full {
		size, every, rounds = 200, time.Second, 4
	}
	n := startEtcd(t, newHost())
	x := newCrowd(t, dial(t, etcd.Config{Endpoints: []string{n.endpoint()}}))
	var members []*member
	for range size {
		members = append(members, x.join())
	}
	p := launch(t, roleResolver, "", nil, n.endpoint())
	connected := func() error {
		for _, m := range members {
			if open := m.open.Load(); open != 1 {
				return fmt.Errorf("%s has %d connections", m.instance.ID, open)
			}
		}
		return nil
	}
	eventually(t, 60*time.Second, "the client is connected to every instance", connected)

	idle := pick(30*time.Second, 3*time.Second)
	before := cpuTime(t, p)
	pass(t, idle)
	quiet := share(cpuTime(t, p)-before, idle)

	untouched := members[size/2:]
	var left []*member
	before = cpuTime(t, p)
	begun := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for round := range rounds {
		// The first half of the places changes its instances in turn.
		tenth := size / 10
		at := round % 5 * tenth
		left = append(left, members[at:at+tenth]...)
		x.leave(members[at : at+tenth])
		for i := at; i < at+tenth; i++ {
			members[i] = x.join()
		}
		<-tick.C
	}
	busy := share(cpuTime(t, p)-before, time.Since(begun))
	took := eventually(t, 20*time.Second, "the client is connected to every instance once", connected)
	eventually(t, 20*time.Second, "the client is connected to no instance that left", func() error {
		for _, m := range left {
			if m.open.Load() != 0 {
				return fmt.Errorf("%s is", m.instance.ID)
			}
		}
		return nil
	})
	redialled := 0
	for _, m := range untouched {
		redialled += int(m.accepted.Load()) - 1
	}
	t.Logf("%d instances, %d replaced every %v, %d times: CPU %.1f %% of a core, %.1f %% before; %d untouched connections, %d dialled again; whole %v after the last change",
		size, size/10, every, rounds, busy, quiet, len(untouched), redialled, took)
	if redialled != 0 {
		t.Errorf("%d connections to instances that never changed were made anew", redialled)
	}
	if out := p.output.String(); strings.Contains(out, "LOST") {
		t.Errorf("calls were lost:\n%s", out)
	}
	if *full && busy-quiet > 5 {
		t.Errorf("following the changes took %.1f %% of a core, want less than 5", busy-quiet)
	}
	recordChurn(churn{size, every, rounds, quiet, busy, len(untouched), redialled})
}

func share(cpu, wall time.Duration) float64 { return 100 * cpu.Seconds() / wall.Seconds() }

// cpuTime returns the CPU time a process has used so far.
func cpuTime(t *testing.T, p *process) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	// proc(5): the name in parentheses may hold anything; utime and stime are
	// the 12th and 13th field after it, in hundredths of a second.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		t.Fatal(errors.New("read the CPU time: unknown format"))
	}
	var sum time.Duration
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum
}
