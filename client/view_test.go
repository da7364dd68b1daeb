package client

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/middleware"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

// newTestDirectory is a directory of a client that is not used for anything else.
func newTestDirectory(t *testing.T, protocol string) *directory {
	t.Helper()
	reg := memory.Open(memory.NewStore())
	c, err := New(reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = reg.Close()
	})
	return newDirectory(newService(c, "echo"), protocol)
}

func TestView(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	instance := func(id, addr string, state registry.State, started time.Duration) registry.Instance {
		return registry.Instance{ID: id, Service: "echo", Endpoints: map[string]string{"grpc": addr}, State: state, Started: t0.Add(started)}
	}
	tests := []struct {
		name string
		list []registry.Instance
		want []string
		err  string
	}{
		{"none", nil, nil, "is registered"},
		{"two", []registry.Instance{instance("a", "h:1", registry.Up, 0), instance("b", "h:2", registry.Up, 0)}, []string{"a", "b"}, ""},
		{"another protocol", []registry.Instance{{ID: "web", Endpoints: map[string]string{"http": "h:1"}}}, nil, `"grpc" endpoint`},
		{"one drains", []registry.Instance{instance("a", "h:1", registry.Draining, 0), instance("b", "h:2", registry.Up, 0)}, []string{"b"}, ""},
		{"all drain", []registry.Instance{instance("a", "h:1", registry.Draining, 0), instance("b", "h:2", registry.Draining, 0)}, []string{"a", "b"}, ""},
		{"restarted at its address", []registry.Instance{instance("old", "h:1", registry.Up, 0), instance("new", "h:1", registry.Up, time.Second)}, []string{"new"}, ""},
		{"restarted, listed the other way round", []registry.Instance{instance("new", "h:1", registry.Up, time.Second), instance("old", "h:1", registry.Up, 0)}, []string{"new"}, ""},
		{"restarted while it drained", []registry.Instance{instance("old", "h:1", registry.Draining, time.Hour), instance("new", "h:1", registry.Up, 0)}, []string{"new"}, ""},
		{"state left empty is up", []registry.Instance{instance("a", "h:1", "", 0), instance("b", "h:2", registry.Draining, 0)}, []string{"a"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newTestDirectory(t, "grpc").view(registry.Snapshot{Instances: tt.list}, nil)
			var got []string
			for _, n := range v.nodes {
				got = append(got, n.id)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("instances are %v, want %v", got, tt.want)
			}
			if (v.err != nil) != (tt.err != "") || v.err != nil && !strings.Contains(v.err.Error(), tt.err) {
				t.Errorf("error is %v, want %q", v.err, tt.err)
			}
			if v.list.Len() != len(v.nodes) || len(v.byAddr) != len(v.nodes)+len(v.spares) || v.listed != len(tt.list) {
				t.Errorf("the view does not agree with itself: %+v", v)
			}
		})
	}
}

func TestViewKeepsWhatIsKnownOfAnAddress(t *testing.T) {
	d := newTestDirectory(t, "http")
	first := d.view(registry.Snapshot{Instances: []registry.Instance{{ID: "a", Endpoints: map[string]string{"http": "h:1"}}}}, nil)
	first.nodes[0].rest.begin(time.Now(), errors.New("no"))
	second := d.view(registry.Snapshot{Instances: []registry.Instance{
		{ID: "a2", Endpoints: map[string]string{"http": "h:1"}, Weight: 7},
		{ID: "b", Endpoints: map[string]string{"http": "h:2"}},
	}}, first)
	if second.nodes[0].endpoint != first.nodes[0].endpoint || second.nodes[0].rest != first.nodes[0].rest {
		t.Error("the record of the address was lost")
	}
	if second.nodes[0].id != "a2" || second.nodes[0].endpoint.Weight() != 7 {
		t.Error("the new entry was not taken over")
	}
}

func TestRest(t *testing.T) {
	t0 := time.Now()
	r := &rest{made: t0}
	if !r.ready(t0) {
		t.Fatal("rests from the start")
	}
	r.begin(t0, errors.New("no"))
	if r.ready(t0.Add(httpRestBase/2 - time.Millisecond)) {
		t.Error("the rest is shorter than half of the base")
	}
	after := t0.Add(httpRestBase)
	if !r.ready(after) {
		t.Error("the rest is longer than the base")
	}
	if r.ready(after) {
		t.Error("a second call was let through to try")
	}
	if !r.ready(after.Add(DefaultConnectTimeout)) {
		t.Error("after the try nobody may try again")
	}
	for range 20 {
		r.begin(t0, errors.New("no"))
	}
	if r.ready(t0.Add(httpRestMax/2-time.Millisecond)) || !r.ready(t0.Add(httpRestMax)) {
		t.Error("a long rest is not between half of the limit and the limit")
	}
	r.over()
	if !r.ready(t0) {
		t.Error("still rests after a success")
	}
}

func TestMethodTableIsBounded(t *testing.T) {
	var table methodTable
	var last *middleware.Call
	for i := range maxMethods {
		last = &middleware.Call{Service: "s", Method: string(rune('a' + i))}
		table.get(last)
	}
	if first := table.get(last); first != table.get(last) {
		t.Error("a method does not keep its state")
	}
	x, y := table.get(&middleware.Call{Method: "x1"}), table.get(&middleware.Call{Method: "x2"})
	if x != y {
		t.Error("the table grows without a bound")
	}
	if n := len(*table.known.Load()); n != maxMethods+1 {
		t.Errorf("the table holds %d", n)
	}
}

func TestErrorsHaveCodes(t *testing.T) {
	cause := errors.New("reset")
	for _, err := range []error{&BreakerError{Rejection: &breaker.Rejection{}}, &unreachableError{err: cause}} {
		if got := middleware.Code(err); got != codes.Unavailable {
			t.Errorf("%T has code %s", err, got)
		}
	}
	if err := (&unreachableError{err: cause}); !errors.Is(err, cause) {
		t.Error("the cause is hidden")
	}
}

func TestViewForgetsWhatWasWhileLost(t *testing.T) {
	d := newTestDirectory(t, "grpc")
	snapshot := registry.Snapshot{Instances: many(3)}
	before := d.view(snapshot, nil)
	lost := before.byAddr["10.0.0.0:9000"]
	failures := func() uint64 { return lost.endpoint.Stats(time.Now()).Failures }

	snapshot.Quarantined = quarantine(lost.id)
	away := d.view(snapshot, before)
	var c balancer.Call
	lost.endpoint.Begin(time.Now(), &c)
	lost.endpoint.End(time.Now(), &c, balancer.Failed)
	if away = d.view(snapshot, away); failures() != 1 {
		t.Errorf("%d failures while it is lost, want 1", failures())
	}
	snapshot.Quarantined = nil
	if back := d.view(snapshot, away); failures() != 0 || back.byAddr[lost.addr].endpoint != lost.endpoint {
		t.Errorf("%d failures are held against the instance that is back", failures())
	}
}
