package etcd

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry"
)

// operator returns an operator with a client of its own.
func (s *server) operator() (*Operator, *clientv3.Client) {
	s.t.Helper()
	client := s.dial(Config{})
	o := NewOperator(client, "")
	s.t.Cleanup(func() {
		if err := o.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return o, client
}

func store(t *testing.T, client *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := client.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

const entryOfO1 = `{"endpoints":{"grpc":"10.0.0.1:9000"},"weight":10}`

func TestOperatorReads(t *testing.T) {
	o, client := newServer(t).operator()
	ctx := t.Context()
	for key, value := range map[string]string{
		"/plinth/services/orders/o-1":      entryOfO1,
		"/plinth/services/orders/o-2":      entryOfO1,
		"/plinth/services/orders/o-3":      "garbage",
		"/plinth/services/orders-eu/e-1":   entryOfO1,
		"/plinth/operator/orders/o-1":      `{"state":"draining","weight":5}`,
		"/plinth/operator/orders/gone":     `{"weight":5}`,
		"/plinth/operator/orders/o-2":      `{"weight":-5}`,
		"/plinth/operator/billing/b-1":     `{"state":"draining"}`,
		"/plinth/config/default":           "x: 1",
		"/elsewhere/services/orders/other": entryOfO1,
	} {
		store(t, client, key, value)
	}

	services, err := o.Services(ctx)
	if want := []string{"billing", "orders", "orders-eu"}; err != nil || !slices.Equal(services, want) {
		t.Errorf("Services = %q, %v, want %q", services, err, want)
	}

	instances, skipped, err := o.Instances(ctx, "orders")
	if err != nil || len(instances) != 2 || instances[0].ID != "o-1" || instances[1].ID != "o-2" || instances[0].Service != "orders" {
		t.Errorf("Instances = %+v, %v, want o-1 and o-2", instances, err)
	}
	if len(skipped) != 1 || skipped[0].Key != "/plinth/services/orders/o-3" || skipped[0].Err == nil {
		t.Errorf("Instances skipped %+v, want o-3", skipped)
	}
	if instances, skipped, err := o.Instances(ctx, "order"); err != nil || len(instances)+len(skipped) != 0 {
		t.Errorf("Instances of an unknown service = %+v, %+v, %v", instances, skipped, err)
	}

	overrides, skipped, err := o.Overrides(ctx, "orders")
	want := map[string]registry.Override{"o-1": {State: registry.Draining, Weight: 5}, "gone": {Weight: 5}}
	if err != nil || !maps.Equal(overrides, want) {
		t.Errorf("Overrides = %+v, %v, want %+v", overrides, err, want)
	}
	if len(skipped) != 1 || skipped[0].Key != "/plinth/operator/orders/o-2" {
		t.Errorf("Overrides skipped %+v, want o-2", skipped)
	}

	if got, err := o.Override(ctx, "orders", "o-1"); err != nil || got != want["o-1"] {
		t.Errorf("Override of o-1 = %+v, %v", got, err)
	}
	if got, err := o.Override(ctx, "orders", "o-9"); err != nil || got != (registry.Override{}) {
		t.Errorf("Override of an instance without = %+v, %v", got, err)
	}
	if _, err := o.Override(ctx, "orders", "o-2"); err == nil || !strings.Contains(err.Error(), "/plinth/operator/orders/o-2") {
		t.Errorf("Override that is none: error %v, want one that names the key", err)
	}

	if inst, err := o.Find(ctx, "e"); err != nil || inst.ID != "e-1" || inst.Service != "orders-eu" || inst.Weight != 10 {
		t.Errorf("Find e = %+v, %v", inst, err)
	}
	if _, err := o.Find(ctx, "o-3"); err == nil || !strings.Contains(err.Error(), "/plinth/services/orders/o-3") {
		t.Errorf("Find of garbage: error %v, want one that names the key", err)
	}
	if _, err := o.Find(ctx, "other"); err == nil {
		t.Error("Find has found an instance of another namespace")
	}
}

func TestOperatorWrites(t *testing.T) {
	o, client := newServer(t).operator()
	ctx := t.Context()
	const key = "/plinth/operator/orders/o-1"
	stored := func() string {
		t.Helper()
		response, err := client.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if len(response.Kvs) == 0 {
			return ""
		}
		return string(response.Kvs[0].Value)
	}

	err := o.SetOverride(ctx, "orders", "o-1", registry.Override{Weight: 5})
	if missing, ok := errors.AsType[*NotFoundError](err); !ok || missing.ID != "orders/o-1" || stored() != "" {
		t.Errorf("SetOverride without an instance: %v, stored %q", err, stored())
	}
	store(t, client, testKey, entryOfO1)
	if err := o.SetOverride(ctx, "orders", "o-1", registry.Override{Weight: -5}); err == nil || stored() != "" {
		t.Errorf("SetOverride of what is not valid: %v, stored %q", err, stored())
	}
	if err := o.SetOverride(ctx, "orders", "o-1", registry.Override{State: registry.Draining}); err != nil || stored() != `{"state":"draining"}` {
		t.Errorf("SetOverride: %v, stored %q", err, stored())
	}
	change, err := o.ChangeOverride(ctx, "orders", "o-1", func(now registry.Override) registry.Override { now.Weight = 7; return now })
	want := Change{Before: registry.Override{State: registry.Draining}, After: registry.Override{State: registry.Draining, Weight: 7}, Revision: change.Revision}
	if err != nil || change != want || stored() != `{"state":"draining","weight":7}` {
		t.Errorf("ChangeOverride = %+v, %v, stored %q, want %+v", change, err, stored(), want)
	}
	store(t, client, "/plinth/else", "") // the next revision
	if response, err := client.Get(ctx, "/plinth/else"); err != nil || response.Kvs[0].ModRevision != change.Revision+1 {
		t.Errorf("the change says revision %d, and the next one is %d, %v", change.Revision, response.Kvs[0].ModRevision, err)
	}
	if err := o.SetOverride(ctx, "orders", "o-1", registry.Override{}); err != nil || stored() != "" {
		t.Errorf("SetOverride to nothing: %v, stored %q", err, stored())
	}
	store(t, client, key, "garbage")
	if change, err := o.ChangeOverride(ctx, "orders", "o-1", func(now registry.Override) registry.Override { return now }); err != nil || change.Before != (registry.Override{}) || stored() != "" {
		t.Errorf("ChangeOverride of garbage = %+v, %v, stored %q", change, err, stored())
	}
	store(t, client, key, `{"weight":3}`)
	for range 2 {
		if err := o.ClearOverride(ctx, "orders", "o-1"); err != nil || stored() != "" {
			t.Errorf("ClearOverride: %v, stored %q", err, stored())
		}
	}
}

// TestOperatorsDoNotUndoEachOther has many change one override at once.
func TestOperatorsDoNotUndoEachOther(t *testing.T) {
	o, client := newServer(t).operator()
	store(t, client, testKey, entryOfO1)
	const operators = 20
	var wg sync.WaitGroup
	for range operators {
		wg.Go(func() {
			_, err := o.ChangeOverride(t.Context(), "orders", "o-1", func(now registry.Override) registry.Override { now.Weight++; return now })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := o.Override(t.Context(), "orders", "o-1"); err != nil || got.Weight != operators {
		t.Errorf("after %d changes by one the weight is %d, %v", operators, got.Weight, err)
	}
}

func TestOperatorAwaits(t *testing.T) {
	o, client := newServer(t).operator()
	store(t, client, testKey, entryOfO1)
	type outcome struct {
		inst registry.Instance
		err  error
	}
	await := func(ctx context.Context, weight int) <-chan outcome {
		done, looked := make(chan outcome, 1), make(chan struct{}, 1000)
		go func() {
			inst, err := o.Await(ctx, "orders", "o-1", func(inst registry.Instance, revision int64) bool {
				looked <- struct{}{}
				return inst.Weight == weight && revision > 0
			})
			done <- outcome{inst, err}
		}()
		<-looked
		return done
	}

	done := await(t.Context(), 50)
	store(t, client, testKey, strings.Replace(entryOfO1, "10}", "50}", 1))
	if got := <-done; got.err != nil || got.inst.Weight != 50 {
		t.Errorf("Await = %+v, %v, want weight 50", got.inst, got.err)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	done = await(ctx, 99)
	why := errors.New("enough")
	cancel(why)
	if got := <-done; !errors.Is(got.err, why) || errors.Is(got.err, ErrUnreachable) || got.inst.Weight != 50 {
		t.Errorf("Await when its context ends = %+v, %v", got.inst, got.err)
	}

	done = await(t.Context(), 99)
	if _, err := client.Delete(t.Context(), testKey); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.err == nil || got.err.Error() != (&NotFoundError{ID: "orders/o-1"}).Error() {
		t.Errorf("Await of an instance that leaves = %v", got.err)
	}
}

func TestOperatorUnreachable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, in the kernel, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, tt := range map[string]struct {
		addr  string
		limit time.Duration
	}{
		"nobody listens": {closed.Addr().String(), opTimeout / 2},
		"no answer":      {silent.Addr().String(), opTimeout + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := Dial(Config{Endpoints: []string{tt.addr}})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			o := NewOperator(client, "")
			defer o.Close()
			began := time.Now()
			_, err = o.Services(t.Context())
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), tt.addr) {
				t.Errorf("error %v, want one that is ErrUnreachable and names %s", err, tt.addr)
			}
			if took := time.Since(began); took > tt.limit {
				t.Errorf("that took %v", took)
			}
		})
	}
}

// TestOperatorRole does an operator's work with the role that docs/etcd.md
// gives an operator.
func TestOperatorRole(t *testing.T) {
	s := newServer(t)
	root := s.dial(Config{})
	ctx := t.Context()
	store(t, root, testKey, entryOfO1)
	documentedRoles(t, root)
	enableAuth(t, root)
	client := s.dial(Config{Username: "operator", Password: "secret"})
	o := NewOperator(client, "")
	defer o.Close()
	if services, err := o.Services(ctx); err != nil || !slices.Equal(services, []string{"orders"}) {
		t.Errorf("Services = %q, %v", services, err)
	}
	if inst, err := o.Find(ctx, "o-1"); err != nil || inst.Weight != 10 {
		t.Errorf("Find = %+v, %v", inst, err)
	}
	if err := o.SetOverride(ctx, "orders", "o-1", registry.Override{State: registry.Draining}); err != nil {
		t.Errorf("SetOverride: %v", err)
	}
	if overrides, _, err := o.Overrides(ctx, "orders"); err != nil || overrides["o-1"].State != registry.Draining {
		t.Errorf("Overrides = %+v, %v", overrides, err)
	}
	if err := o.ClearOverride(ctx, "orders", "o-1"); err != nil {
		t.Errorf("ClearOverride: %v", err)
	}
	if _, err := client.Put(ctx, testKey, entryOfO1); err == nil {
		t.Error("an operator may write an instance's entry")
	}
}

// TestOperatorInterrupted: who is interrupted knows whether the override was changed.
func TestOperatorInterrupted(t *testing.T) {
	o, client := newServer(t).operator()
	store(t, client, "/plinth/services/orders/o-1", entryOfO1)
	var is registry.Override
	changed := 0
	const tries = 200
	for i := range tries {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Microsecond)
		change, err := o.ChangeOverride(ctx, "orders", "o-1", func(registry.Override) registry.Override { return registry.Override{Weight: i + 1} })
		cancel()
		if err == nil {
			is = change.After
			changed++
		}
		if now, err := o.Override(t.Context(), "orders", "o-1"); err != nil || now != is {
			t.Fatalf("try %d: the override is %+v, %v, want %+v", i, now, err, is)
		}
	}
	t.Logf("%d of %d changes were made", changed, tries)
	if changed == tries {
		t.Error("nobody was interrupted")
	}
}
