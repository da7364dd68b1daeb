package client_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/outlier"
	"plinth.internal/client/route"
	"plinth.internal/middleware"
	reports "plinth.internal/middleware/load"
	"plinth.internal/registry"
)

// rules are those that a test changes while calls are made.
type rules struct {
	table    atomic.Pointer[route.Table]
	balancer string
	ejection outlier.Config
}

func (r *rules) set(t *testing.T, rules ...route.Rule) {
	t.Helper()
	table, err := route.New(rules...)
	if err != nil {
		t.Fatal(err)
	}
	r.table.Store(table)
}

func (r *rules) option() client.Option {
	return client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: r.balancer, Routes: r.table.Load(), Ejection: r.ejection}
	})
}

// ruled is a world with rules, whose instances are all well.
func ruled(t *testing.T, first ...route.Rule) (*world, *rules) {
	t.Helper()
	r := &rules{balancer: balancer.NameRoundRobin, ejection: outlier.Config{Off: true}}
	r.set(t, first...)
	return newWorld(t, r.option()), r
}

// startAs is start for an instance of a version.
func (w *world) startAs(t *testing.T, id, version string, handle func(context.Context, string) error) *echo {
	t.Helper()
	e := listen(t, id, "127.0.0.1:0", handle)
	w.announce(t, registry.Instance{ID: id, Version: version, Endpoints: map[string]string{"grpc": e.addr}})
	return e
}

// marked gives calls the header of the canary.
func marked(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-canary", "1")
}

// members puts members into the baggage.
func members(t *testing.T, pairs ...string) context.Context {
	t.Helper()
	var all []baggage.Member
	for i := 0; i < len(pairs); i += 2 {
		m, err := baggage.NewMember(pairs[i], pairs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	b, err := baggage.New(all...)
	if err != nil {
		t.Fatal(err)
	}
	return baggage.ContextWithBaggage(t.Context(), b)
}

// settled waits until the instances are connected to, with rules out of the way.
func settled(t *testing.T, w *world, r *rules, n int) *grpc.ClientConn {
	t.Helper()
	before := r.table.Swap(nil)
	conn := w.conn(t)
	connected(t, conn, n)
	r.table.Store(before)
	for _, e := range w.instances {
		e.calls.Store(0)
	}
	return conn
}

// TestRouteBaggage: a member of the baggage routes, over a transport without
// headers as well.
func TestRouteBaggage(t *testing.T) {
	w, _ := ruled(t, route.Rule{Name: "canary", Baggage: map[string]string{"canary": "1"}, Version: "2"})
	for id, version := range map[string]string{"old": "1", "new": "2"} {
		s := newRPCServer(t, id, "127.0.0.1:0")
		w.announce(t, registry.Instance{ID: id, Version: version, Endpoints: map[string]string{"netrpc": s.addr}})
	}
	n := w.netrpc(t)
	for range 10 {
		if reply, err := said(t.Context(), n, "x"); err != nil || reply != "old: x" {
			t.Fatal(reply, err)
		}
		if reply, err := said(members(t, "canary", "1"), n, "x"); err != nil || reply != "new: x" {
			t.Fatal(reply, err)
		}
	}
}

// TestRouteFallback: with nobody to go to, a call goes elsewhere and that is told,
// or fails and says so.
func TestRouteFallback(t *testing.T) {
	w, r := ruled(t, byHeader)
	w.startAs(t, "old", "1", nil)
	conn := settled(t, w, r, 1)
	for range 3 {
		if id, err := call(marked(t.Context()), conn, methodGet); err != nil || id != "old" {
			t.Fatal(id, err)
		}
	}
	want := client.RouteFellBack{Service: "echo", Protocol: "grpc", Route: "canary", Wanted: "version 2", Reason: client.RouteNobody, First: true}
	fell := recorded[client.RouteFellBack](w.events)
	if len(fell) != 3 || fell[0] != want || fell[1].First {
		t.Errorf("told of %+v", fell)
	}

	failing := byHeader
	failing.Fallback = route.FallbackFail
	r.set(t, failing)
	_, err := call(marked(t.Context()), conn, methodGet, grpc.WaitForReady(true))
	sentence := `call service "echo" by route "canary": no instance in the list has version 2, and the route's fallback is fail`
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), sentence) {
		t.Errorf("it ended with %v", err)
	}
	if id, err := call(t.Context(), conn, methodGet); err != nil || id != "old" {
		t.Errorf("an ordinary call: %q, %v", id, err)
	}
	if fell := recorded[client.RouteFellBack](w.events); len(fell) != 4 || !fell[3].Failed || !fell[3].First {
		t.Errorf("told of %+v", fell)
	}

	// The moment somebody is there, the calls go to him.
	w.startAs(t, "new", "2", nil)
	eventually(t, "the canary is called", func() bool {
		id, err := call(marked(t.Context()), conn, methodGet)
		return err == nil && id == "new"
	})
}

// TestRouteFallbackHTTP is the same for the transports that connect on demand.
func TestRouteFallbackHTTP(t *testing.T) {
	w, r := ruled(t, byPercent)
	r.set(t, route.Rule{Name: "canary", Version: "2"})
	w.webAs(t, "old", "1")
	canary := w.webAs(t, "new", "2")
	h := w.client.HTTP("echo")
	fetched := func() (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://echo/", nil)
		if err != nil {
			return "", err
		}
		return fetch(h, req)
	}
	if id, err := fetched(); err != nil || id != "new" {
		t.Fatal(id, err)
	}
	canary.Close()
	for range 5 {
		if id, err := fetched(); err != nil || id != "old" {
			t.Fatal(id, err)
		}
	}
	fell := recorded[client.RouteFellBack](w.events)
	if len(fell) < 5 || fell[len(fell)-1].Reason == client.RouteNobody {
		t.Errorf("told of %+v", fell)
	}
	r.set(t, route.Rule{Name: "canary", Version: "3", Fallback: route.FallbackFail})
	if _, err := fetched(); err == nil || !strings.Contains(err.Error(), `by route "canary": no instance in the list has version 3`) {
		t.Errorf("it ended with %v", err)
	}
}

// TestRouteReservedOnly: ordinary calls go to reserved instances before they fail.
func TestRouteReservedOnly(t *testing.T) {
	w, r := ruled(t, byHeader)
	w.startAs(t, "new", "2", nil)
	conn := settled(t, w, r, 1)
	if id, err := call(t.Context(), conn, methodGet); err != nil || id != "new" {
		t.Fatal(id, err)
	}
	fell := recorded[client.RouteFellBack](w.events)
	if len(fell) != 1 || fell[0].Route != route.Ordinary || fell[0].Failed || !fell[0].First {
		t.Errorf("told of %+v", fell)
	}
}

// TestRouteRetry: retries stay among the rule's instances while there is another
// one, and then do as the rule says.
func TestRouteRetry(t *testing.T) {
	w, r := ruled(t, byHeader)
	old := w.startAs(t, "old", "1", nil)
	sick := w.startAs(t, "new-1", "2", nil)
	w.startAs(t, "new-2", "2", nil)
	conn := settled(t, w, r, 3)
	sick.fail(reply(codes.Unavailable))
	old.calls.Store(0)
	for range 8 { // few, for the sake of the retry budget
		if id, err := call(marked(t.Context()), conn, methodGet); err != nil || id != "new-2" {
			t.Fatal(id, err)
		}
	}
	if old.calls.Load() != 0 || len(recorded[client.CallRetried](w.events)) < 3 {
		t.Errorf("%d calls left the canary, %d retries", old.calls.Load(), len(recorded[client.CallRetried](w.events)))
	}

	// With one instance only, the second attempt goes elsewhere.
	r.set(t, route.Rule{Name: "one", Headers: map[string]string{"x-canary": "1"}, Version: "1"})
	old.fail(reply(codes.Unavailable))
	if id, err := call(marked(t.Context()), conn, methodGet); err != nil || id == "old" {
		t.Fatal(id, err)
	}
	fell := recorded[client.RouteFellBack](w.events)
	if len(fell) == 0 || fell[0].Reason != client.RouteTried || fell[0].First {
		t.Errorf("told of %+v", fell)
	}

	// Where that is not wanted, it says what was looked for.
	r.set(t, route.Rule{Name: "one", Headers: map[string]string{"x-canary": "1"}, Version: "1", Fallback: route.FallbackFail})
	_, err := call(marked(t.Context()), conn, methodGet)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "all instances with version 1 that can be called failed in this call") {
		t.Errorf("it ended with %v", err)
	}
}

// TestRouteEjected: a sick canary is ejected as any instance, and its calls go on.
func TestRouteEjected(t *testing.T) {
	w, r := ruled(t, byHeader)
	r.ejection = outlier.Config{}
	w.startAs(t, "old-1", "1", nil)
	w.startAs(t, "old-2", "1", nil)
	sick := w.startAs(t, "new", "2", nil)
	conn := settled(t, w, r, 3)
	sick.fail(reply(codes.Internal))
	eventually(t, "the canary is ejected", func() bool {
		_, _ = call(marked(t.Context()), conn, methodPut)
		_, err := call(t.Context(), conn, methodPut) // the others do well
		return err == nil && len(recorded[client.InstanceEjected](w.events)) > 0
	})
	id, err := call(marked(t.Context()), conn, methodPut)
	if err != nil || id == "new" {
		t.Fatal(id, err)
	}
	fell := recorded[client.RouteFellBack](w.events)
	if len(fell) == 0 || fell[0].Reason != client.RouteUncallable {
		t.Errorf("told of %+v", fell)
	}
	e := w.client.Explain()[0]
	if !strings.Contains(e.Why, "route canary: none of the 1 with version 2 can be called, others take its calls") {
		t.Errorf("the page says %q", e.Why)
	}
	if e.Totals["fell_back"] == 0 {
		t.Errorf("the page counts %v", e.Totals)
	}
}

// TestRouteChange: rules count from the next call on, also where they are taken
// away.
func TestRouteChange(t *testing.T) {
	w, r := ruled(t, byHeader)
	w.startAs(t, "old", "1", nil)
	w.startAs(t, "new", "2", nil)
	conn := settled(t, w, r, 2)
	for _, step := range []struct {
		rules       []route.Rule
		ctx         context.Context
		old, canary bool
	}{
		{[]route.Rule{byHeader}, t.Context(), true, false},
		{[]route.Rule{byHeader}, marked(t.Context()), false, true},
		{[]route.Rule{{Name: "all", Version: "2"}}, t.Context(), false, true},
		{[]route.Rule{{Name: "none", Percent: new(0.0), Version: "2"}}, t.Context(), true, false},
		{nil, t.Context(), true, true},
	} {
		r.set(t, step.rules...)
		seen := map[string]bool{}
		for range 50 {
			id, err := call(step.ctx, conn, methodGet)
			if err != nil {
				t.Fatal(err)
			}
			seen[id] = true
		}
		if seen["old"] != step.old || seen["new"] != step.canary {
			t.Errorf("with %+v: %v", step.rules, seen)
		}
	}
}

// TestRoutePolicies: every policy picks among the rule's instances and no others,
// and uses all of them that it would use.
func TestRoutePolicies(t *testing.T) {
	for _, name := range balancer.Names() {
		t.Run(name, func(t *testing.T) {
			w, r := ruled(t, byHeader)
			for _, id := range []string{"old-1", "old-2", "new-1", "new-2"} {
				version := "1"
				if strings.HasPrefix(id, "new") {
					version = "2"
				}
				w.startAs(t, id, version, nil)
			}
			conn := settled(t, w, r, 4)
			r.balancer = name
			seen := map[string]map[string]bool{"old": {}, "new": {}}
			for range 100 { // in turn, which must not disturb policies that count
				for kind, ctx := range map[string]context.Context{"old": t.Context(), "new": marked(t.Context())} {
					id, err := call(ctx, conn, methodGet)
					if err != nil || !strings.HasPrefix(id, kind) {
						t.Fatalf("a call for %s: %q, %v", kind, id, err)
					}
					seen[kind][id] = true
				}
			}
			want := 2
			switch name {
			case balancer.NamePickFirst, balancer.NameAdaptive, balancer.NamePrecise: // whose choice it is
				want = 1
			}
			if len(seen["old"]) < want || len(seen["new"]) < want {
				t.Errorf("called were %v", seen)
			}
		})
	}
}

// TestRouteExplain: the page shows the rules, whose an instance is, and how the
// calls divide.
func TestRouteExplain(t *testing.T) {
	w, r := ruled(t, byHeader, route.Rule{Name: "gone", Percent: new(0.0), Version: "9", Fallback: route.FallbackFail})
	w.startAs(t, "old", "1", nil)
	w.startAs(t, "new", "2", nil)
	conn := settled(t, w, r, 2)
	for i := range 40 {
		ctx := t.Context()
		if i%4 == 0 {
			ctx = marked(ctx)
		}
		if _, err := call(ctx, conn, methodGet); err != nil {
			t.Fatal(err)
		}
	}
	e := w.client.Explain()[0]
	if len(e.Protocols) != 1 || len(e.Protocols[0].Routes) != 3 {
		t.Fatalf("the protocols are %+v", e.Protocols)
	}
	canary, gone, ordinary := e.Protocols[0].Routes[0], e.Protocols[0].Routes[1], e.Protocols[0].Routes[2]
	if canary.Name != "canary" || canary.Match != "calls with header x-canary=1" || canary.To != "version 2" || canary.Fallback != "any" ||
		canary.Instances != 1 || canary.Callable != 1 || canary.Calls != 10 || canary.Share != 0.25 || canary.Since.IsZero() {
		t.Errorf("canary is %+v", canary)
	}
	if want := "route canary: calls with header x-canary=1 go to 1 of the 1 with version 2, 25.0 % of the calls so far"; canary.Why != want || !strings.Contains(e.Why, want) {
		t.Errorf("canary: %s; in %s", canary.Why, e.Why)
	}
	if gone.Instances != 0 || gone.Why != "route gone: no instance has version 9, its calls fail" || gone.Fallback != "fail" {
		t.Errorf("gone is %+v", gone)
	}
	if ordinary.Name != route.Ordinary || ordinary.Calls != 30 || ordinary.Instances != 1 {
		t.Errorf("ordinary is %+v", ordinary)
	}
	for _, inst := range e.Instances {
		reserved := strings.HasSuffix(inst.Why, "; reserved for route canary") && len(inst.Routes) == 1
		if reserved != (inst.ID == "new") {
			t.Errorf("%s: %v, %s", inst.ID, inst.Routes, inst.Why)
		}
	}
}

// TestRouteWaits: a call that is to fail without its instances waits for one that
// is being connected to.
func TestRouteWaits(t *testing.T) {
	r := &rules{}
	r.set(t, route.Rule{Name: "canary", Version: "2", Fallback: route.FallbackFail})
	var slow atomic.Pointer[string]
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == *slow.Load() {
			pause(ctx, 50*time.Millisecond)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	w := newWorld(t, r.option(), client.WithDialer(dial))
	canary := w.startAs(t, "new", "2", nil)
	slow.Store(&canary.addr)
	w.startAs(t, "old", "1", nil)
	if id, err := call(t.Context(), w.conn(t), methodGet); err != nil || id != "new" {
		t.Errorf("answered %q, %v", id, err)
	}
	if fell := recorded[client.RouteFellBack](w.events); len(fell) > 0 {
		t.Errorf("told of %+v", fell)
	}
}

// TestRouteLimit: a rule's only instance is not asked to hand calls back, as
// nobody of the rule would take them; several are.
func TestRouteLimit(t *testing.T) {
	w, r := ruled(t, byHeader)
	limits := make(chan int, 100)
	handle := func(ctx context.Context, _ string) error {
		limits <- len(metadata.ValueFromIncomingContext(ctx, reports.HeaderLimit))
		return nil
	}
	for id, version := range map[string]string{"old-1": "1", "old-2": "1", "new": "2"} {
		e := listen(t, id, "127.0.0.1:0", handle, grpc.UnaryInterceptor(middleware.UnaryServer(reports.New().Middleware())))
		w.announce(t, registry.Instance{ID: id, Version: version, Endpoints: map[string]string{"grpc": e.addr}})
	}
	conn := settled(t, w, r, 3)
	for len(limits) > 0 {
		<-limits
	}
	limited := func(ctx context.Context) bool {
		if _, err := call(ctx, conn, methodPut); err != nil {
			t.Fatal(err)
		}
		return <-limits > 0
	}
	eventually(t, "ordinary calls have a limit", func() bool { return limited(t.Context()) })
	for range 10 {
		if limited(marked(t.Context())) {
			t.Fatal("the only canary is asked to hand a call back")
		}
	}
}
