package dns_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"plinth.internal/registry"
	"plinth.internal/registry/dns"
	"plinth.internal/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	hosts = "{service}.test.:9000"
	named = "_grpc._tcp.{service}.test."
	// patience is how long a test waits for what must happen.
	patience = 20 * time.Second
)

func inst(service, id string, weight int, endpoints map[string]string) registry.Instance {
	return registry.Instance{ID: id, Service: service, Endpoints: endpoints, Weight: weight, State: registry.Up}
}

func grpcAt(address string) map[string]string { return map[string]string{"grpc": address} }

// open returns a registry that asks the server all the time.
func open(t testing.TB, s *server, names string, opts ...dns.Option) *registry.Registry {
	t.Helper()
	opts = append([]dns.Option{dns.WithServer(s.addr), dns.WithRefresh(10*time.Millisecond, 10*time.Millisecond)}, opts...)
	reg, err := dns.Open(names, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := reg.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return reg
}

func TestConformance(t *testing.T) {
	tests := map[string]struct {
		names string
		fixed map[string][]registry.Instance
	}{
		"addresses": {hosts, map[string][]registry.Instance{
			"billing": {
				inst("billing", "10.0.0.1:9000", 100, grpcAt("10.0.0.1:9000")),
				inst("billing", "10.0.0.2:9000", 100, grpcAt("10.0.0.2:9000")),
				inst("billing", "2001:db8::1:9000", 100, grpcAt("[2001:db8::1]:9000")),
			},
			"no-addresses": {},
			"not:a:name":   {},
		}},
		"records": {"grpc=" + named, map[string][]registry.Instance{
			"billing": {
				inst("billing", "10.0.0.1:9000", 30, grpcAt("10.0.0.1:9000")),
				inst("billing", "10.0.0.1:9001", 1, grpcAt("10.0.0.1:9001")),
				inst("billing", "10.0.0.2:9000", 70, grpcAt("10.0.0.2:9000")),
			},
			"unweighted": {inst("unweighted", "10.0.0.1:9000", 100, grpcAt("10.0.0.1:9000"))},
			"off":        {},
		}},
		"two protocols": {"http={service}.test.:80, _grpc._tcp.{service}.test.", map[string][]registry.Instance{
			"billing": {
				inst("billing", "10.0.0.1:80", 100, map[string]string{"http": "10.0.0.1:80"}), // has two gRPC ports
				inst("billing", "10.0.0.2:80", 100, map[string]string{"http": "10.0.0.2:80", "grpc": "10.0.0.2:9000"}),
				inst("billing", "2001:db8::1:80", 100, map[string]string{"http": "[2001:db8::1]:80"}),
			},
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			registrytest.Run(t, func(t *testing.T) registrytest.Harness {
				s := newServer(t)
				s.set("billing.test.", address("10.0.0.2"), address("10.0.0.1"), address("2001:db8::1"), address("10.0.0.2"))
				s.set("no-addresses.test.", srv(0, 0, 1, "a.test."))
				s.set("a.test.", address("10.0.0.1"))
				s.set("b.test.", address("10.0.0.2"))
				s.set("_grpc._tcp.billing.test.", srv(1, 30, 9000, "a.test."), srv(1, 0, 9001, "a.test."),
					srv(1, 70, 9000, "b.test."), srv(2, 100, 9002, "b.test."))
				s.set("_grpc._tcp.unweighted.test.", srv(5, 0, 9000, "a.test."))
				s.set("_grpc._tcp.off.test.", srv(0, 0, 0, "."))
				return registrytest.Harness{
					Open: func(t *testing.T, opts ...registry.Option) *registry.Registry {
						return open(t, s, tt.names, dns.WithRegistry(opts...))
					},
					Fixed: tt.fixed,
				}
			})
		})
	}
}

// update is one thing that a watch yielded.
type update struct {
	snapshot registry.Snapshot
	err      error
}

func (u update) ids() string {
	var ids []string
	for _, i := range u.snapshot.Instances {
		ids = append(ids, i.ID)
	}
	return strings.Join(ids, " ")
}

type watcher struct {
	updates chan update
	seen    []update
}

func watch(t *testing.T, reg *registry.Registry, service string) *watcher {
	t.Helper()
	w := &watcher{updates: make(chan update)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		defer close(w.updates)
		for snapshot, err := range reg.Watch(ctx, service) {
			select {
			case w.updates <- update{snapshot, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range w.updates {
		}
	})
	return w
}

func (w *watcher) until(t *testing.T, what string, ok func(update) bool) update {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case u := <-w.updates:
			w.seen = append(w.seen, u)
			if ok(u) {
				return u
			}
		case <-timeout:
			t.Fatalf("no %s within %v; last: %+v", what, patience, w.seen[max(0, len(w.seen)-1):])
		}
	}
}

func (w *watcher) untilIDs(t *testing.T, ids string) update {
	t.Helper()
	return w.until(t, "list of "+ids, func(u update) bool { return u.err == nil && u.ids() == ids })
}

// untilAsked waits for n more questions about the name.
func (s *server) untilAsked(t *testing.T, name string, n int) {
	t.Helper()
	n += s.questions(name)
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.questions(name) < n {
		if time.Now().After(deadline) {
			t.Fatalf("%s was asked for %d times within %v, want %d; asked: %v", name, s.questions(name), patience, n, s.asked())
		}
		<-tick.C
	}
}

func TestChangesAreFollowed(t *testing.T) {
	s := newServer(t)
	s.set("billing.test.", address("10.0.0.1"))
	w := watch(t, open(t, s, hosts), "billing")
	w.untilIDs(t, "10.0.0.1:9000")
	s.set("billing.test.", address("10.0.0.1"), address("10.0.0.2"))
	w.untilIDs(t, "10.0.0.1:9000 10.0.0.2:9000")
}

// F23: whatever DNS does, nobody's list is emptied by it.
func TestFaultsKeepTheList(t *testing.T) {
	for _, tt := range []struct {
		fault fault
		only  string
		fails bool // it is told as an error
	}{
		{servfail, "", true},
		{servfail, "TypeAAAA", true}, // half an answer
		{silent, "", true},
		{refused, "", true},
		{garbage, "", true},
		{empty, "", false},
		{nxdomain, "", false},
	} {
		for kind, names := range map[string]string{"addresses": hosts, "records": named} {
			t.Run(string(tt.fault)+tt.only+" "+kind, func(t *testing.T) {
				if kind == "records" && tt.only != "" {
					t.Skip("a target that fails is skipped")
				}
				s := newServer(t)
				s.set("billing.test.", address("10.0.0.1"), address("10.0.0.2"))
				s.set("_grpc._tcp.billing.test.", srv(0, 0, 9000, "billing.test."))
				const want = "10.0.0.1:9000 10.0.0.2:9000"
				w := watch(t, open(t, s, names, dns.WithTimeout(50*time.Millisecond)), "billing")
				w.untilIDs(t, want)

				s.fail(tt.fault, tt.only)
				if tt.fails {
					w.until(t, "error", func(u update) bool { return u.err != nil })
				} else {
					w.until(t, "quarantine", func(u update) bool { return len(u.snapshot.Quarantined) == 2 })
				}
				s.fail(none, "")
				w.until(t, "healthy list", func(u update) bool {
					return u.err == nil && u.ids() == want && len(u.snapshot.Quarantined) == 0
				})
				for _, u := range w.seen {
					if u.ids() != want {
						t.Errorf("list %q (error %v) in the time of the fault, want %s", u.ids(), u.err, want)
					}
				}
			})
		}
	}
}

func TestTruncatedAnswerIsReadByTCP(t *testing.T) {
	s := newServer(t)
	var records []dnsmessage.ResourceBody
	for i := range 200 { // more than fits into a packet
		records = append(records, address(fmt.Sprintf("10.0.1.%d", i)))
	}
	s.set("billing.test.", records...)
	s.fail(truncate, "")
	s.setTTL(3600)
	w := watch(t, open(t, s, hosts), "billing")
	u := w.until(t, "first list", func(update) bool { return true })
	if u.err != nil || len(u.snapshot.Instances) != 200 {
		t.Errorf("%d instances, error %v; want 200", len(u.snapshot.Instances), u.err)
	}
}

// The time to live decides when the next lookup is, also if it came by TCP.
func TestTimeToLive(t *testing.T) {
	for name, fault := range map[string]fault{"packet": none, "stream": truncate} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.fail(fault, "")
			s.setTTL(0)
			s.set("billing.test.", address("10.0.0.1"))
			s.set("other.test.", address("10.0.0.3"))
			w := watch(t, open(t, s, hosts, dns.WithRefresh(10*time.Millisecond, time.Hour)), "billing")
			s.untilAsked(t, "billing.test.", 20)
			s.setTTL(3600)
			s.set("billing.test.", address("10.0.0.2"))
			w.until(t, "change", func(u update) bool { return u.ids() == "10.0.0.1:9000 10.0.0.2:9000" })
			before := s.questions("billing.test.")
			watch(t, open(t, s, hosts), "other")
			s.untilAsked(t, "other.test.", 20)
			if after := s.questions("billing.test."); after != before {
				t.Errorf("%d more questions within the time to live", after-before)
			}
		})
	}
}

func TestTargetThatFailsIsSkipped(t *testing.T) {
	s := newServer(t)
	s.set("_grpc._tcp.billing.test.", srv(0, 0, 9000, "a.test."), srv(0, 0, 9000, "b.test."), srv(0, 0, 9000, "gone.test."), srv(0, 0, 0, "a.test."))
	s.set("a.test.", address("10.0.0.1"))
	s.set("b.test.", address("10.0.0.2"))
	s.fail(servfail, "b.test.")
	w := watch(t, open(t, s, named), "billing")
	u := w.until(t, "first list", func(update) bool { return true })
	if u.err != nil || u.ids() != "10.0.0.1:9000" {
		t.Errorf("list %q, error %v; want the one instance that was found", u.ids(), u.err)
	}
	var skipped []string
	for _, s := range u.snapshot.Skipped {
		skipped = append(skipped, s.Key)
	}
	if got, want := strings.Join(skipped, " "), "10.0.0.1:0 b.test.:9000 gone.test.:9000"; got != want {
		t.Errorf("skipped %q, want %q", got, want)
	}
	// It comes back with the target.
	s.fail(none, "")
	w.until(t, "both", func(u update) bool { return u.ids() == "10.0.0.1:9000 10.0.0.2:9000" })
}

func TestNetwork(t *testing.T) {
	s := newServer(t)
	s.set("billing.test.", address("10.0.0.1"), address("2001:db8::1"))
	s.fail(servfail, "TypeAAAA")
	watch(t, open(t, s, hosts, dns.WithNetwork("ip4")), "billing").untilIDs(t, "10.0.0.1:9000")
	s.fail(servfail, "TypeA")
	watch(t, open(t, s, hosts, dns.WithNetwork("ip6")), "billing").untilIDs(t, "2001:db8::1:9000")
}

// A watch ends at once, though the DNS server never answers.
func TestEndDuringLookup(t *testing.T) {
	for kind, names := range map[string]string{"addresses": hosts, "records": named} {
		t.Run(kind, func(t *testing.T) {
			s := newServer(t)
			s.fail(silent, "")
			reg := open(t, s, names)
			watch(t, reg, "billing")
			name := strings.TrimSuffix(strings.ReplaceAll(names, "{service}", "billing"), ":9000")
			s.untilAsked(t, name, 1)
			began := time.Now()
			if err := reg.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("Close took %v while a lookup was waiting", took)
			}
		})
	}
}

func TestOneLookupForManyWatchers(t *testing.T) {
	s := newServer(t)
	s.set("billing.test.", address("10.0.0.1"))
	reg := open(t, s, hosts, dns.WithRefresh(time.Hour, time.Hour), dns.WithNetwork("ip4"))
	for range 20 {
		watch(t, reg, "billing").untilIDs(t, "10.0.0.1:9000")
	}
	if got := s.questions("billing.test."); got != 1 {
		t.Errorf("%d questions for 20 watchers, want 1", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name, names string
		opt         dns.Option
		want        string
	}{
		{"empty", "", nil, "must be host:port"},
		{"no port", "{service}.test.", nil, "must be host:port"},
		{"bad port", "{service}.test.:http", nil, "port must be a number"},
		{"port 0", "{service}.test.:0", nil, "port must be a number"},
		{"no place for the service", "billing.test.:9000", nil, "must contain {service}"},
		{"no place in the second", hosts + ",http=billing.test.:80", nil, `name "http=billing.test.:80": must contain {service}`},
		{"protocol twice", hosts + ",grpc=" + named, nil, `protocol "grpc" is given twice`},
		{"bad protocol", "g rpc=" + named, nil, `endpoint name "g rpc"`},
		{"empty protocol", "_._tcp.{service}.", nil, `endpoint name "": must not be empty`},
		{"server", hosts, dns.WithServer("10.96.0.10"), `server "10.96.0.10": must be host:port`},
		{"network", hosts, dns.WithNetwork("tcp"), `network "tcp": must be ip, ip4 or ip6`},
		{"refresh", hosts, dns.WithRefresh(time.Minute, 0), "refresh between 1m0s and 30s"},
		{"negative refresh", hosts, dns.WithRefresh(-1, 0), "must not be negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var opts []dns.Option
			if tt.opt != nil {
				opts = append(opts, tt.opt)
			}
			reg, err := dns.Open(tt.names, opts...)
			if err == nil {
				reg.Close()
				t.Fatal("Open returned no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to contain %q", err, tt.want)
			}
		})
	}
}
