//go:build linux

package chaos_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/internal/processors"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
)

// counters reads some of etcd's own metrics; each is the sum over its labels.
func (n *node) counters(names ...string) map[string]float64 {
	n.t.Helper()
	response, err := http.Get("http://" + n.endpoint() + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	out := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		for _, name := range names {
			rest, ok := strings.CutPrefix(lines.Text(), name)
			if !ok {
				continue
			}
			value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
			if err != nil {
				n.t.Fatalf("read metric %q: %v", lines.Text(), err)
			}
			out[name] += value
		}
	}
	if err := lines.Err(); err != nil {
		n.t.Fatal(err)
	}
	for _, name := range names {
		if _, ok := out[name]; !ok {
			n.t.Fatalf("etcd has no metric %s", name)
		}
	}
	return out
}

// fleet announces instances that are nothing but announcements, some on each
// connection.
func fleet(t *testing.T, endpoint string, connections, each int) []*registry.Registry {
	t.Helper()
	var regs []*registry.Registry
	for c := range connections {
		reg := etcd.Open(dial(t, etcd.Config{Endpoints: []string{endpoint}}))
		t.Cleanup(func() { _ = reg.Close() })
		regs = append(regs, reg)
		for i := range each {
			err := reg.Announce(t.Context(), registry.Instance{
				ID: fmt.Sprintf("i-%d-%d", c, i), Service: echoService, Version: "1.4.0", Zone: "a", Started: time.Now(),
				Endpoints: map[string]string{"grpc": fmt.Sprintf("10.0.%d.%d:9000", c, i), "admin": fmt.Sprintf("10.0.%d.%d:9100", c, i)},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return regs
}

// Names of etcd's metrics.
const (
	metricPuts     = "etcd_mvcc_put_total"
	metricRanges   = "etcd_mvcc_range_total"
	metricWatchers = "etcd_debugging_mvcc_watcher_total"
	metricRenewals = "etcd_debugging_lease_renewed_total"
)

// testLoad counts what instances and clients cost etcd while nothing happens.
func testLoad(t *testing.T) {
	const size = 100
	length := pick(2*time.Minute, 5*time.Second)
	n := startEtcd(t, newHost())
	regs := fleet(t, n.endpoint(), size, 1)
	names := []string{metricPuts, metricRanges, metricWatchers, metricRenewals}
	// sample returns what each instance asked for.
	sample := func() (c costs) {
		pass(t, 2*time.Second)
		before := n.counters(names...)
		pass(t, length)
		after := n.counters(names...)
		each := func(name string) float64 { return (after[name] - before[name]) / size }
		return costs{Puts: each(metricPuts), Ranges: each(metricRanges), Renewals: each(metricRenewals), Watches: after[metricWatchers] / size}
	}
	announced := sample()

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, size)
	for _, reg := range regs {
		go func() {
			for range reg.Watch(ctx, echoService) {
			}
			done <- struct{}{}
		}()
	}
	both := sample()
	cancel()
	for range size {
		<-done
	}

	// A lease of 10 s is renewed every 3.3 s, its key is read every 10 s, give
	// or take a fifth, and a list every 60 s, give or take half of it. Watched
	// are the own key, an operator's override of it, and the list.
	times := func(period float64) float64 { return length.Seconds()/period + 1 }
	if announced.Puts != 0 || announced.Renewals > times(3.3) || announced.Ranges > times(9) || announced.Watches > 2 {
		t.Errorf("in %v an announced instance asked for %+v", length, announced)
	}
	if both.Puts != 0 || both.Renewals > times(3.3) || both.Ranges > times(9)+times(50) || both.Watches > 3 {
		t.Errorf("in %v an announced instance that watches a service asked for %+v", length, both)
	}
	watching := costs{Ranges: max(0, both.Ranges-announced.Ranges), Watches: both.Watches - announced.Watches}
	hour := float64(time.Hour) / float64(length)
	for _, c := range []*costs{&announced, &watching} {
		c.Puts, c.Ranges, c.Renewals = c.Puts*hour, c.Ranges*hour, c.Renewals*hour
	}
	t.Logf("per instance and hour: announced %+v, watching one service %+v", announced, watching)
	recordCosts(size, length, announced, watching)
}

// testMassRegistration lets a thousand instances find a wiped etcd, all of them
// in the same moment.
func testMassRegistration(t *testing.T) {
	const connections, each = 20, 50
	const size = connections * each
	n := startEtcd(t, newHost())
	regs := fleet(t, n.endpoint(), connections, each)
	var ids []string
	for c := range connections {
		for i := range each {
			ids = append(ids, fmt.Sprintf("i-%d-%d", c, i))
		}
	}
	w := startWatcher(t, regs[0])
	eventually(t, 20*time.Second, "the client sees all instances", func() error { return w.sees(ids...) })
	w.expect(ids...)

	n.process.kill()
	n.wipe()
	pass(t, pick(15*time.Second, 3*time.Second))
	answered, before := n.restart(), processors.Read()
	arrived := arrivals(t, n, size)
	scarce := !processors.Strict() && processors.Read().Since(before).Scarce()
	eventually(t, 20*time.Second, "the client sees all instances again", func() error { return w.sees(ids...) })
	w.end()

	back := arrived[len(arrived)-1].Sub(answered)
	perSecond, perTenth := densest(arrived, time.Second), densest(arrived, 100*time.Millisecond)
	t.Logf("%d instances back after %v; at most %d puts in a second, %d in a tenth; longest hole in a client's list %v", size, back, perSecond, perTenth, w.hole)
	if w.emptied {
		t.Error("the client saw an empty list")
	}
	if back > patience(5*time.Second) {
		t.Errorf("%d instances were back after %v, want at most 5s", size, back)
	}
	if perTenth > size/2 && !raced && !scarce { // an etcd that stands still does all that came meanwhile at once
		t.Errorf("%d of %d instances registered within a tenth of a second, want at most half", perTenth, size)
	}
	recordMass(mass{size, back, perSecond, perTenth, w.hole})
}

// arrivals returns when each instance's key came into a new etcd.
func arrivals(t *testing.T, n *node, size int) []time.Time {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := dial(t, etcd.Config{Endpoints: []string{n.endpoint()}})
	seen := map[string]bool{}
	var at []time.Time
	for response := range c.Watch(ctx, servicesPrefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := response.Err(); err != nil {
			t.Fatal(err)
		}
		for _, event := range response.Events {
			if key := string(event.GetKv().GetKey()); !seen[key] {
				seen[key] = true
				at = append(at, time.Now())
			}
		}
		if len(at) >= size {
			return at
		}
	}
	t.Fatalf("%d of %d instances are back after 30s", len(at), size)
	return nil
}

// densest returns the largest number of times within any window of that length.
func densest(times []time.Time, window time.Duration) int {
	most, first := 0, 0
	for i, at := range times {
		for at.Sub(times[first]) > window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
