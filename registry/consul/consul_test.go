package consul

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"plinth.internal/registry"
	"plinth.internal/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// client returns a client whose connections are closed at the end of the test.
func (a *agent) client(t testing.TB) *api.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := api.NewClient(&api.Config{Address: a.url, HttpClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// open returns a registry with the shortest TTL.
func (a *agent) open(t testing.TB, opts ...registry.Option) *registry.Registry {
	t.Helper()
	reg := Open(a.client(t), append([]registry.Option{registry.WithTTL(time.Second)}, opts...)...)
	t.Cleanup(func() {
		if err := reg.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return reg
}

// putValue registers a service with what another program takes for an instance.
func (a *agent) putValue(t testing.TB, service, id string, value []byte) {
	t.Helper()
	if value == nil {
		a.remove(serviceID(service, id))
		return
	}
	meta := map[string]string{metaPiece + "0": string(value)}
	if len(value) > maxPiece {
		var err error
		if meta, err = split(value); err != nil {
			t.Fatal(err)
		}
	}
	a.put(&api.AgentServiceRegistration{ID: serviceID(service, id), Name: service, Meta: meta}, api.HealthPassing, 0)
}

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		a := newAgent(t)
		client := a.client(t)
		return registrytest.Harness{
			Open: func(_ *testing.T, opts ...registry.Option) *registry.Registry {
				return Open(client, append([]registry.Option{registry.WithTTL(time.Second)}, opts...)...)
			},
			Put: func(t *testing.T, service, id string, value []byte) { a.putValue(t, service, id, value) },
			Outage: func(*testing.T) func() {
				a.setDown(true)
				return func() {
					a.remove("orders~o-1")
					a.setDown(false)
				}
			},
		}
	})
}

func testInstance() registry.Instance {
	return registry.Instance{
		ID: "o-1", Service: "orders", Version: "1.2.3", Zone: "a", Weight: 50, State: registry.Up,
		Endpoints: map[string]string{"grpc": "10.0.0.1:9000", "admin": "10.0.0.1:9100"},
		Metadata:  map[string]string{"team": "blue", "note": strings.Repeat("größer ", 200)},
	}
}

func announce(t *testing.T, reg *registry.Registry, inst registry.Instance) {
	t.Helper()
	if err := reg.Announce(context.WithoutCancel(t.Context()), inst); err != nil {
		t.Fatalf("Announce: %v", err)
	}
	if s := reg.Status(); s.State != registry.Registered {
		t.Fatalf("status after Announce: %+v", s)
	}
}

// eventually polls for what is not told.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}

// watch reads lists until one is as wanted.
func watch(t *testing.T, reg *registry.Registry, service, what string, ok func(registry.Snapshot, error) bool) registry.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []string
	for s, err := range reg.Watch(ctx, service) {
		if ok(s, err) {
			return s
		}
		seen = append(seen, fmt.Sprintf("%+v %v", s, err))
	}
	t.Fatalf("no %s within %v; seen: %s", what, patience, strings.Join(seen, "\n"))
	return registry.Snapshot{}
}

func find(s registry.Snapshot, id string) (registry.Instance, bool) {
	for _, inst := range s.Instances {
		if inst.ID == id {
			return inst, true
		}
	}
	return registry.Instance{}, false
}

// What a program sees that knows Consul but not us.
func TestWhatIsWritten(t *testing.T) {
	a := newAgent(t)
	announce(t, a.open(t), testInstance())
	a.mu.Lock()
	reg := a.services["orders~o-1"].registration
	a.mu.Unlock()
	if reg.Name != "orders" || reg.Address != "10.0.0.1" || reg.Port != 9000 || reg.Weights.Passing != 50 ||
		reg.Meta["version"] != "1.2.3" || reg.Meta["zone"] != "a" || reg.Meta["state"] != "up" {
		t.Errorf("registered %+v", reg)
	}
	if c := reg.Check; c.TTL != "1s" || c.DeregisterCriticalServiceAfter != "1m0s" || c.CheckID != "service:orders~o-1" {
		t.Errorf("check %+v", c)
	}
	s := watch(t, a.open(t), "orders", "list", func(_ registry.Snapshot, err error) bool { return err == nil })
	if got, _ := find(s, "o-1"); !got.Equal(testInstance()) {
		t.Errorf("read back %+v, want %+v", got, testInstance())
	}
}

func TestCheckIsPassed(t *testing.T) {
	a := newAgent(t)
	announce(t, a.open(t), testInstance())
	// Longer than the TTL, and critical would be final without another pass.
	eventually(t, "six passes", func() bool { return a.requests("PUT /v1/agent/check/update/{id}") >= 6 })
	if got := a.registered(); len(got) != 1 || got[0] != "orders~o-1 passing" {
		t.Errorf("agent has %v after two TTLs", got)
	}
	if n := a.requests("PUT /v1/agent/service/register"); n != 1 {
		t.Errorf("registered %d times, want once", n)
	}
}

// An agent that was restarted without its state.
func TestLostAgentIsToldAgain(t *testing.T) {
	a := newAgent(t)
	reg := a.open(t)
	announce(t, reg, testInstance())
	a.remove("orders~o-1")
	eventually(t, "registered again", func() bool { return len(a.registered()) == 1 })
	eventually(t, "status", func() bool { return reg.Status().State == registry.Registered })
}

// A process that was taken over leaves the entry to its successor.
func TestWithdrawLeavesForeignEntry(t *testing.T) {
	a := newAgent(t)
	d := driver{a.client(t)}
	first, err := d.Register(t.Context(), testInstance(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	second, err := d.Register(t.Context(), testInstance(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Update(t.Context(), testInstance()); err == nil {
		t.Error("Update of an entry that was taken over returned no error")
	}
	select {
	case <-first.Lost():
		if first.Err() == nil {
			t.Error("lost without an error")
		}
	default:
		t.Error("an entry that was taken over is not lost")
	}
	if second.Err() != nil {
		t.Errorf("the successor lost its entry: %v", second.Err())
	}
	for i, r := range []registry.Registration{first, second} {
		if err := r.Withdraw(t.Context()); err != nil {
			t.Errorf("Withdraw: %v", err)
		}
		if got, want := len(a.registered()), 1-i; got != want {
			t.Errorf("%d entries after withdrawal %d, want %d", got, i, want)
		}
	}
}

// An entry that somebody edited, owner and all else left as it was.
func TestEditedEntryIsPutBack(t *testing.T) {
	a := newAgent(t)
	announce(t, a.open(t), testInstance())
	weight := func() string {
		a.mu.Lock()
		defer a.mu.Unlock()
		value, _ := joined(a.services["orders~o-1"].registration.Meta)
		inst, err := registry.Decode("orders", "o-1", value)
		if err != nil {
			return err.Error()
		}
		return strconv.Itoa(inst.Weight)
	}
	a.mu.Lock()
	edited := *a.services["orders~o-1"].registration
	a.mu.Unlock()
	edited.Meta = maps.Clone(edited.Meta)
	edited.Meta[metaPiece+"0"] = strings.Replace(edited.Meta[metaPiece+"0"], `"weight":50`, `"weight":1`, 1)
	edited.Meta[metaPiece+"1"] = strings.Replace(edited.Meta[metaPiece+"1"], `"weight":50`, `"weight":1`, 1)
	a.put(&edited, api.HealthPassing, time.Second)
	if got := weight(); got == "50" {
		t.Fatal("the test has edited nothing")
	}
	eventually(t, "weight 50 again", func() bool { return weight() == "50" })
}

// After an update whose outcome is not known, the entry is still told from
// that of another process.
func TestUpdateOfUnknownOutcome(t *testing.T) {
	a := newAgent(t)
	d := driver{a.client(t)}
	first, err := d.Register(t.Context(), testInstance(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	r := first.(*registration)
	withdraw := func(r registry.Registration) {
		if err := r.Withdraw(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("Withdraw: %v", err)
		}
	}
	defer withdraw(first)
	r.meta = nil // as write leaves it when the agent does not answer
	if err := first.Update(t.Context(), testInstance()); err != nil || r.meta == nil {
		t.Errorf("the next update: %v", err)
	}
	r.meta = nil
	second, err := d.Register(t.Context(), testInstance(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer withdraw(second)
	if err := first.Update(t.Context(), testInstance()); !errors.Is(err, errTaken) {
		t.Errorf("Update after another process has taken over = %v, want errTaken", err)
	}
}

// Critical is absent: in quarantine, unless the instance was draining.
func TestCriticalIsAbsent(t *testing.T) {
	a := newAgent(t)
	good := testInstance()
	draining := testInstance()
	draining.ID, draining.State = "o-2", registry.Draining
	for _, inst := range []registry.Instance{good, draining} {
		value, err := registry.Encode(inst)
		if err != nil {
			t.Fatal(err)
		}
		a.putValue(t, "orders", inst.ID, value)
	}
	reg := a.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	turned := false
	for s, err := range reg.Watch(ctx, "orders") {
		switch {
		case err != nil:
			t.Fatal(err)
		case !turned && len(s.Instances) == 2:
			turned = true
			a.mu.Lock()
			for id, s := range a.services {
				s.status = api.HealthCritical
				a.syncLocked(id)
			}
			a.mu.Unlock()
		case turned && len(s.Instances) == 1 && len(s.Quarantined) == 1:
			if _, ok := s.Quarantined["o-1"]; !ok {
				t.Errorf("quarantined %v, want o-1", s.Quarantined)
			}
			return
		}
	}
	t.Fatal("no list of the critical instance in quarantine alone")
}

func TestListOf(t *testing.T) {
	entry := func(id string, state registry.State, status string, modified uint64) *api.ServiceEntry {
		inst := testInstance()
		inst.ID, inst.State, inst.Weight = id, state, int(modified)
		reg, err := registrationOf(inst, "me", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return (&service{registration: reg, status: status, modified: modified}).entry()
	}
	list := listOf("orders", []*api.ServiceEntry{
		entry("twice", registry.Up, api.HealthCritical, 9),
		entry("twice", registry.Up, api.HealthPassing, 7),
		entry("twice", registry.Up, api.HealthPassing, 8),
		entry("warning", registry.Up, api.HealthWarning, 1),
		entry("critical", registry.Up, api.HealthCritical, 2),
		entry("left", registry.Draining, api.HealthCritical, 3),
		entry("draining", registry.Draining, api.HealthPassing, 4),
	}, 42)
	var got []string
	for _, inst := range list.Instances {
		got = append(got, fmt.Sprintf("%s:%d:%s", inst.ID, inst.Weight, inst.State))
	}
	if want := "twice:8:up draining:4:draining warning:1:up"; strings.Join(got, " ") != want {
		t.Errorf("instances %v, want %s", got, want)
	}
	if len(list.Withdrawn) != 1 || list.Withdrawn[0] != "left" || list.Revision != 42 || len(list.Skipped) > 0 {
		t.Errorf("withdrawn %v, revision %d, skipped %v; want [left], 42, none", list.Withdrawn, list.Revision, list.Skipped)
	}
}

func TestForeignService(t *testing.T) {
	a := newAgent(t)
	a.put(&api.AgentServiceRegistration{
		ID: "legacy1", Name: "legacy", Port: 80, Meta: map[string]string{"version": "2", "zone": "b"},
		Weights: &api.AgentWeights{Passing: 7},
	}, api.HealthPassing, 0)
	a.put(&api.AgentServiceRegistration{ID: "legacy2", Name: "legacy", Address: "h"}, api.HealthPassing, 0)
	s := watch(t, a.open(t), "legacy", "list of both", func(s registry.Snapshot, _ error) bool {
		return len(s.Instances) == 1 && len(s.Skipped) == 1
	})
	want := registry.Instance{
		ID: "legacy1", Service: "legacy", Version: "2", Zone: "b", Weight: 7, State: registry.Up,
		Endpoints: map[string]string{"grpc": "10.0.0.1:80"}, Metadata: map[string]string{"version": "2", "zone": "b"},
	}
	if got := s.Instances[0]; !got.Equal(want) {
		t.Errorf("instance %+v, want %+v", got, want)
	}
	if got := s.Skipped[0]; got.Key != "legacy/legacy2" || !strings.Contains(got.Err.Error(), "port") {
		t.Errorf("skipped %+v, want the one without a port", got)
	}
}

func TestMaintenanceIsDraining(t *testing.T) {
	a := newAgent(t)
	announce(t, a.open(t), testInstance())
	reader := a.open(t)
	for _, on := range []bool{true, false, true} {
		a.maintain("orders~o-1", on)
		want := registry.Up
		if on {
			want = registry.Draining
		}
		watch(t, reader, "orders", "state "+string(want), func(s registry.Snapshot, _ error) bool {
			inst, ok := find(s, "o-1")
			return ok && inst.State == want
		})
	}
}

// After a restore the index is lower than the one that a query waits for.
func TestIndexGoesBackwards(t *testing.T) {
	for _, back := range []uint64{3, 0} {
		t.Run(strconv.FormatUint(back, 10), func(t *testing.T) {
			t.Parallel() // most of it is waiting for a query that the restore has left behind
			a := newAgent(t)
			a.setIndex(1000)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			step := 0
			for s, err := range a.open(t).Watch(ctx, "orders") {
				switch {
				case err != nil:
					t.Fatal(err)
				case step == 0:
					step++
					a.setIndex(back)
					value, err := registry.Encode(testInstance())
					if err != nil {
						t.Fatal(err)
					}
					a.putValue(t, "orders", "o-1", value)
				case len(s.Instances) == 1:
					return
				}
			}
			t.Fatal("what changed after the restore was not seen")
		})
	}
}

func TestNextIndex(t *testing.T) {
	for _, tt := range []struct{ asked, got, want uint64 }{
		{0, 5, 5}, {5, 5, 5}, {5, 9, 9}, {9, 5, 0}, {0, 0, 1}, {5, 0, 0}, {1, 0, 0},
	} {
		if got := nextIndex(tt.asked, tt.got); got != tt.want {
			t.Errorf("nextIndex(%d, %d) = %d, want %d", tt.asked, tt.got, got, tt.want)
		}
	}
}

func TestNoLeaderKeepsTheList(t *testing.T) {
	a := newAgent(t)
	announce(t, a.open(t), testInstance())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	step := 0
	for s, err := range a.open(t).Watch(ctx, "orders") {
		if len(s.Instances) != 1 || len(s.Quarantined) > 0 {
			t.Errorf("list %+v, want one instance throughout", s)
		}
		switch {
		case step == 0 && err == nil:
			step++
			a.setLeader(false)
		case step == 1 && err != nil:
			step++
			a.setLeader(true)
		case step == 2 && err == nil:
			return
		}
	}
	t.Fatalf("ended in step %d", step)
}

// A list that never changes must not be asked for all the time, nor one whose
// index does while the list stays.
func TestQueriesArePaced(t *testing.T) {
	a := newAgent(t)
	reg := a.open(t)
	watching := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range reg.Watch(ctx, "orders") {
			close(watching) // a second list would panic
		}
	}()
	<-watching
	const health = "GET /v1/health/service/{service}"
	before, began, changes := a.requests(health), time.Now(), 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for a.requests(health) < before+5 {
		<-tick.C
		changes++
		a.setIndex(1000 + uint64(changes))
		if time.Since(began) > patience {
			t.Fatal("no queries")
		}
	}
	if took := time.Since(began); took < 4*queryPace {
		t.Errorf("5 queries in %v while the index changed %d times, want at least %v", took, changes, 4*queryPace)
	}
	cancel()
	<-done
}

func TestLargestInstance(t *testing.T) {
	inst := testInstance()
	inst.Metadata = map[string]string{"big": strings.Repeat("x", 29_000)}
	if _, err := registrationOf(inst, "me", time.Second); err != nil {
		t.Errorf("29 kB: %v", err)
	}
	inst.Metadata["big"] = strings.Repeat("x", maxPieces*maxPiece)
	if _, err := registrationOf(inst, "me", time.Second); err == nil || !strings.Contains(err.Error(), "shorten its metadata") {
		t.Errorf("too large: %v", err)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(strings.Repeat("ä", 300))
	f.Add("x" + strings.Repeat("\u20ac", 300))
	f.Add("\xff\x80" + strings.Repeat("\x80", 600))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		meta, err := split([]byte(text))
		if err != nil {
			return
		}
		for key, value := range meta {
			if len(value) > maxPiece || !metaKey.MatchString(key) {
				t.Errorf("pair %q has %d bytes", key, len(value))
			}
		}
		if value, ok := joined(meta); string(value) != text || ok != (text != "") {
			t.Errorf("joined %q, want %q", value, text)
		}
	})
}

// FuzzInstance checks that whatever is in Consul, what is listed is valid.
func FuzzInstance(f *testing.F) {
	f.Add("legacy1", "10.0.0.1", 80, 1, `{"endpoints":{"grpc":"h:1"}}`)
	f.Add("orders~o-1", "", 0, 0, "")
	f.Add("../x", "h\n", -1, -1, "{")
	f.Fuzz(func(t *testing.T, id, host string, port, weight int, value string) {
		meta := map[string]string{"version": value}
		if value != "" {
			meta[metaPiece+"0"] = value
		}
		list := listOf("orders", []*api.ServiceEntry{{
			Node:    &api.Node{Address: host},
			Service: &api.AgentService{ID: id, Port: port, Weights: api.AgentWeights{Passing: weight}, Meta: meta},
		}}, 1)
		if len(list.Instances)+len(list.Skipped) != 1 {
			t.Errorf("%d instances and %d skipped of one entry", len(list.Instances), len(list.Skipped))
		}
		for _, inst := range list.Instances {
			if err := inst.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
