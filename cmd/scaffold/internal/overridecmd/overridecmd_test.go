package overridecmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"plinth.internal/cmd/scaffold/internal/access"
	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/etcd/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an etcd with one announced instance, orders/orders-1.
type world struct {
	t      *testing.T
	client *clientv3.Client
	reg    *registry.Registry
}

const (
	entryKey    = "/plinth/services/orders/orders-1"
	overrideKey = "/plinth/operator/orders/orders-1"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	clearEnv(t)
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	t.Setenv(access.EnvEndpoints, server.Endpoint())
	client, err := etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	w := &world{t: t, client: client, reg: etcd.Open(client)}
	t.Cleanup(func() { w.reg.Close() })
	return w
}

func clearEnv(t *testing.T) {
	t.Helper()
	for _, name := range []string{access.EnvEndpoints, access.EnvNamespace, access.EnvUser, access.EnvPassword} {
		t.Setenv(name, "")
	}
}

func (w *world) announce(id string) {
	w.t.Helper()
	inst := registry.Instance{ID: id, Service: "orders", Endpoints: map[string]string{"grpc": "127.0.0.1:1"}, Weight: 80}
	if err := w.reg.Announce(context.WithoutCancel(w.t.Context()), inst); err != nil {
		w.t.Fatal(err)
	}
}

// put writes a key, or deletes it if the value is empty.
func (w *world) put(key, value string) {
	w.t.Helper()
	op := clientv3.OpPut(key, value)
	if value == "" {
		op = clientv3.OpDelete(key)
	}
	if _, err := w.client.Do(w.t.Context(), op); err != nil {
		w.t.Fatal(err)
	}
}

// get reads a key; it is empty if it is not there.
func (w *world) get(key string) string {
	w.t.Helper()
	response, err := w.client.Get(context.WithoutCancel(w.t.Context()), key)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(response.Kvs) == 0 {
		return ""
	}
	return string(response.Kvs[0].GetValue())
}

// await waits until a key satisfies ok.
func (w *world) await(key, what string, ok func(value string) bool) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !ok(w.get(key)) {
		select {
		case <-tick.C:
		case <-limit:
			w.t.Fatalf("%s: %s; it is %q", key, what, w.get(key))
		}
	}
}

// scaffold runs one of the commands as the command line does.
func scaffold(ctx context.Context, args ...string) (stdout string, err error) {
	root := &cobra.Command{SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(NewDrainCommand(), NewUndrainCommand(), NewWeightCommand())
	var out bytes.Buffer
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err = root.ExecuteContext(ctx)
	return out.String(), err
}

// must runs a command that is to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := scaffold(t.Context(), args...)
	if err != nil {
		t.Fatalf("scaffold %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// fails runs a command that is to fail with a code, and returns the error.
func fails(t *testing.T, code string, args ...string) *ui.Error {
	t.Helper()
	out, err := scaffold(t.Context(), args...)
	e, ok := errors.AsType[*ui.Error](err)
	if !ok || e.Code != code {
		t.Fatalf("scaffold %s: error %v, want code %s", strings.Join(args, " "), err, code)
	}
	if out != "" {
		t.Errorf("scaffold %s: output %s", strings.Join(args, " "), out)
	}
	return e
}

func TestOneInstance(t *testing.T) {
	w := newWorld(t)
	w.announce("orders-1")
	steps := []struct {
		args     []string
		says     string
		entry    string // what the entry has when the command has returned
		override string
	}{
		{[]string{"drain", "orders"}, `^orders/orders-1 is draining: it gets no new calls until .scaffold undrain orders-1.  \(\d\.\ds\)\n$`, `"weight":80,"state":"draining"`, `{"state":"draining"}`},
		{[]string{"drain", "orders-1"}, `is draining`, `"weight":80,"state":"draining"`, `{"state":"draining"}`},
		{[]string{"weight", "orders/orders-1", "20"}, `has weight 20 until`, `"weight":20,"state":"draining"`, `{"state":"draining","weight":20}`},
		{[]string{"undrain", "orders-1"}, `is up: it gets calls  \(`, `"weight":20,"state":"up"`, `{"weight":20}`},
		{[]string{"undrain", "orders-1"}, `is up: it gets calls; nothing had to be changed\n$`, `"weight":20,"state":"up"`, `{"weight":20}`},
		{[]string{"weight", "orders-1", "10000"}, `has weight 10000 until`, `"weight":10000,"state":"up"`, `{"weight":10000}`},
		{[]string{"weight", "orders-1", "reset"}, `has its own weight, 80  \(`, `"weight":80,"state":"up"`, ``},
		{[]string{"weight", "orders-1", "0"}, `has its own weight, 80; nothing had to be changed`, `"weight":80,"state":"up"`, ``},
		// The weight it has anyway: only a new entry shows that it follows.
		{[]string{"weight", "orders-1", "80"}, `has weight 80 until`, `"weight":80,"state":"up"`, `{"weight":80}`},
		{[]string{"weight", "orders-1", "reset"}, `has its own weight, 80  \(`, `"weight":80,"state":"up"`, ``},
	}
	for _, step := range steps {
		out := must(t, step.args...)
		if !regexp.MustCompile(step.says).MatchString(out) {
			t.Errorf("%q says\n%s, want %s", step.args, out, step.says)
		}
		if entry := w.get(entryKey); !strings.Contains(entry, step.entry) {
			t.Fatalf("after %q the entry is %s, want %s", step.args, entry, step.entry)
		}
		if override := w.get(overrideKey); override != step.override {
			t.Fatalf("after %q the override is %q, want %q", step.args, override, step.override)
		}
	}
}

func TestKeptOverRegistration(t *testing.T) {
	w := newWorld(t)
	w.announce("orders-1")
	must(t, "drain", "orders-1")
	w.put(entryKey, "") // as if its lease had expired
	w.await(entryKey, "is not back, draining", func(v string) bool { return strings.Contains(v, `"state":"draining"`) })
	if err := w.reg.Withdraw(t.Context(), "orders-1"); err != nil {
		t.Fatal(err)
	}
	if left := w.get(overrideKey); left != "" {
		t.Errorf("an instance that has withdrawn leaves %s", left)
	}
}

func TestJSON(t *testing.T) {
	w := newWorld(t)
	w.announce("orders-1")
	var got map[string]any
	if err := json.Unmarshal([]byte(must(t, "drain", "orders-1", "--json")), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "elapsed_s")
	want := map[string]any{
		"type": "result", "ok": true, "service": "orders", "id": "orders-1", "changed": true, "waited": true, "state": "draining", "weight": 80.0,
		"override": map[string]any{"state": "draining"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("result\n%v, want\n%v", got, want)
	}
}

// TestNoReaction uses an entry that nobody stands behind: an instance that is
// dead, or one that knows no overrides.
func TestNoReaction(t *testing.T) {
	const entry = `{"endpoints":{"grpc":"127.0.0.1:1"},"weight":80}`
	tests := []struct {
		name          string
		before, after string // the override
		entry         string
		args          []string
		says          string
	}{
		{"drain", "", "", entry, []string{"drain", "orders-1"}, "taken back"},
		{"drain beside a weight", `{"weight":5}`, `{"weight":5}`, entry, []string{"drain", "orders-1"}, "taken back"},
		{"drain again", `{"state":"draining"}`, `{"state":"draining"}`, entry, []string{"drain", "orders-1"}, "was there before and still is"},
		{"undrain", `{"state":"draining"}`, `{"state":"draining"}`, strings.Replace(entry, "80}", `80,"state":"draining"}`, 1), []string{"undrain", "orders-1"}, "taken back"},
		{"a weight that it has by chance", "", "", entry, []string{"weight", "orders-1", "80"}, "taken back"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.put(entryKey, tt.entry)
			w.put(overrideKey, tt.before)
			e := fails(t, "no_reaction", append(tt.args, "--wait", "200ms")...)
			if e.Exit != 0 || !strings.Contains(e.Message, "orders/orders-1 does not follow: its entry is unchanged after 200ms") ||
				!strings.Contains(e.Message, tt.says) || !strings.Contains(e.Hint, "scaffold ps orders") {
				t.Errorf("error %+v, want one that says %q", e, tt.says)
			}
			if after := w.get(overrideKey); after != tt.after {
				t.Errorf("the override is %q, want %q", after, tt.after)
			}
		})
	}
}

func TestNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.put(entryKey, `{"endpoints":{"grpc":"127.0.0.1:1"}}`)
	if out := must(t, "drain", "orders-1", "--wait", "0"); !strings.Contains(out, "was not waited for") {
		t.Errorf("output %s", out)
	}
	if override := w.get(overrideKey); override != `{"state":"draining"}` {
		t.Errorf("override %q", override)
	}
}

// TestWhileWaiting has things happen to an instance that does not follow.
func TestWhileWaiting(t *testing.T) {
	tests := []struct {
		name   string
		happen func(w *world, interrupt func())
		code   string
		after  string
	}{
		{"it leaves", func(w *world, _ func()) { w.put(entryKey, "") }, "instance_gone", ""},
		{"interrupted", func(_ *world, interrupt func()) { interrupt() }, "interrupted", ""},
		{"somebody else wants something", func(w *world, interrupt func()) {
			w.put(overrideKey, `{"state":"draining","weight":7}`)
			interrupt()
		}, "interrupted", `{"state":"draining","weight":7}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.put(entryKey, `{"endpoints":{"grpc":"127.0.0.1:1"}}`)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			done := make(chan error, 1)
			go func() {
				_, err := scaffold(ctx, "drain", "orders-1", "--wait", "30s")
				done <- err
			}()
			w.await(overrideKey, "is not written", func(v string) bool { return v != "" })
			tt.happen(w, interrupt)
			err := <-done
			if e, ok := errors.AsType[*ui.Error](err); !ok || e.Code != tt.code {
				t.Errorf("error %#v, want code %s", err, tt.code)
			}
			if after := w.get(overrideKey); after != tt.after {
				t.Errorf("the override is %q, want %q", after, tt.after)
			}
		})
	}
}

func TestDrainsByItself(t *testing.T) {
	w := newWorld(t)
	inst := registry.Instance{ID: "orders-1", Service: "orders", Endpoints: map[string]string{"grpc": "127.0.0.1:1"}, State: registry.Draining}
	if err := w.reg.Announce(context.WithoutCancel(t.Context()), inst); err != nil {
		t.Fatal(err)
	}
	const says = "is not drained by an operator, but drains by itself"
	if out := must(t, "undrain", "orders-1"); !strings.Contains(out, says+": it is stopping; nothing had to be changed") {
		t.Errorf("output %s", out)
	}
	must(t, "drain", "orders-1")
	if out := must(t, "undrain", "orders-1"); !strings.Contains(out, says+": it is stopping  (") {
		t.Errorf("output %s", out)
	}
}

func TestWhichInstance(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"orders-1a", "orders-1b", "orders-2"} {
		w.announce(id)
	}
	e := fails(t, "ambiguous_id", "drain", "orders-1")
	if want := []string{"  orders/orders-1a", "  orders/orders-1b"}; !slices.Equal(e.Detail, want) || e.Hint == "" {
		t.Errorf("error %+v, want matches %q", e, want)
	}
	e = fails(t, "no_such_instance", "undrain", "orders-3")
	if !slices.Contains(e.Detail, "  orders/orders-2") || !strings.Contains(e.Message, `"orders-3"`) {
		t.Errorf("error %+v, want one that proposes orders-2", e)
	}
	if e = fails(t, "no_such_instance", "weight", "something-else", "5"); len(e.Detail) > 0 || e.Hint != "scaffold ps" {
		t.Errorf("error %+v, want no proposal", e)
	}
	if keys, err := w.client.Get(t.Context(), "/plinth/operator/", clientv3.WithPrefix()); err != nil || keys.Count != 0 {
		t.Errorf("overrides were written: %v, %v", keys, err)
	}
}

// TestWhatTheDeadLeft takes away the overrides of instances that are gone.
func TestWhatTheDeadLeft(t *testing.T) {
	w := newWorld(t)
	for _, left := range []string{`{"state":"draining"}`, "garbage"} {
		w.put(overrideKey, left)
		fails(t, "no_such_instance", "undrain", "orders-1")
		fails(t, "no_such_instance", "drain", "orders/orders-1")
		if out := must(t, "undrain", "orders/orders-1"); !strings.Contains(out, "orders/orders-1 is gone") {
			t.Errorf("output %s", out)
		}
		if after := w.get(overrideKey); after != "" {
			t.Errorf("the override is %q", after)
		}
	}
	fails(t, "no_such_instance", "undrain", "orders/orders-1")
}

func TestWrongUse(t *testing.T) {
	clearEnv(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for _, tt := range []struct {
		args []string
		code string
		exit int
	}{
		{[]string{"drain"}, "usage", ui.ExitUsage},
		{[]string{"drain", "o", "p"}, "usage", ui.ExitUsage},
		{[]string{"drain", "o"}, "no_endpoints", ui.ExitUsage},
		{[]string{"drain", "o", "--wait", "-1s"}, "usage", ui.ExitUsage},
		{[]string{"weight", "o"}, "usage", ui.ExitUsage},
		{[]string{"weight", "o", "many"}, "usage", ui.ExitUsage},
		{[]string{"weight", "o", "10001"}, "usage", ui.ExitUsage},
		{[]string{"weight", "o", "1.5"}, "usage", ui.ExitUsage},
		{[]string{"undrain", "o", "--endpoints", addr}, "etcd_unreachable", 0},
	} {
		if e := fails(t, tt.code, tt.args...); e.Exit != tt.exit {
			t.Errorf("%q: exit code %d, want %d", tt.args, e.Exit, tt.exit)
		}
	}
	if e := fails(t, "usage", "weight", "--", "o", "-1"); e.Exit != ui.ExitUsage {
		t.Errorf("a weight below zero: %+v", e)
	}
}
