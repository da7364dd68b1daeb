package configcmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"plinth.internal/cmd/scaffold/internal/access"
	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/etcd/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an etcd that the commands find.
type world struct {
	t      *testing.T
	client *clientv3.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	for _, name := range []string{access.EnvNamespace, access.EnvUser, access.EnvPassword} {
		t.Setenv(name, "")
	}
	t.Setenv("USER", "ann")
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
	return &world{t, client}
}

// document is what etcd has.
func (w *world) document(name string) string {
	w.t.Helper()
	response, err := w.client.Get(w.t.Context(), "/plinth/config/"+name)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(response.Kvs) == 0 {
		return ""
	}
	return string(response.Kvs[0].GetValue())
}

// scaffold runs one of the commands as the command line does.
func scaffold(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "scaffold", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(NewCommand())
	var out, errOut bytes.Buffer
	root.SetArgs(append([]string{"config"}, args...))
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errOut)
	err = root.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, _, err := scaffold(t, "", args...)
	if err != nil {
		t.Fatalf("scaffold config %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// fails runs a command that is to fail with a code, and returns the error.
func fails(t *testing.T, code string, exit int, args ...string) *ui.Error {
	t.Helper()
	_, _, err := scaffold(t, "", args...)
	e, ok := errors.AsType[*ui.Error](err)
	if !ok || e.Code != code || e.Exit != exit {
		t.Fatalf("scaffold config %s: %v, want code %s, exit %d", strings.Join(args, " "), err, code, exit)
	}
	return e
}

func matches(t *testing.T, what, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%s:\n%s\nwant %s", what, text, pattern)
	}
}

// TestCommands is a day in the life of a document.
func TestCommands(t *testing.T) {
	w := newWorld(t)
	fails(t, "no_document", 0, "get", "orders")
	matches(t, "the first", must(t, "set", "orders", "limits.per_user=5", "clients.billing.timeout=2s", "-m", "begin"),
		`^\+ clients\.billing\.timeout: 2s\n\+ limits\.per_user: 5\norders is at revision \d+, version 1; services use it within a second`)
	if got, want := w.document("orders"), "limits:\n  per_user: 5\nclients:\n  billing:\n    timeout: 2s\n"; got != want {
		t.Errorf("the document is\n%s, want\n%s", got, want)
	}
	out, note, err := scaffold(t, "", "get", "orders")
	if err != nil || out != w.document("orders") {
		t.Errorf("get: %q, %v", out, err)
	}
	matches(t, "who wrote it", note, `^revision \d+, version 1 by ann@\S+ at 20\S+Z: begin\n$`)

	matches(t, "nothing to do", must(t, "set", "orders", "limits.per_user=5"), `^orders says so already; nothing was written\n$`)
	matches(t, "a change", must(t, "set", "orders", "limits.per_user=6", "--author", "bob"), `^- limits\.per_user: 5\n\+ limits\.per_user: 6\n`)
	matches(t, "for all", must(t, "set", "default", "clients.default.timeout=1s", "limits.per_user=1"), `default is at revision`)

	out, note, err = scaffold(t, "", "get", "orders", "limits.per_user")
	if err != nil || out != "6\n" {
		t.Errorf("a key: %q, %v", out, err)
	}
	matches(t, "where it is from", note, `^limits\.per_user from orders line 2 \(revision \d+\)\n$`)
	if out := must(t, "get", "orders", "clients"); out != "clients.default.timeout: 1s\nclients.billing.timeout: 2s\n" {
		t.Errorf("a section: %q", out)
	}
	fails(t, "no_such_key", 0, "get", "orders", "telemetry")

	matches(t, "take out", must(t, "set", "orders", "--unset", "clients"), `^- clients\.billing\.timeout: 2s\n`)
	out = must(t, "history", "orders")
	matches(t, "history", out, `(?s)^VERSION +REVISION +TIME +AUTHOR +CHANGED +MESSAGE\n3 \(newest\) .* clients\.billing\.timeout .*\n2 .* bob +limits\.per_user .*\n1 .* ann@\S+ +clients\.billing\.timeout, limits\.per_user +begin\n$`)

	matches(t, "rollback", must(t, "rollback", "orders", "1"), `version 4;`)
	if got, want := w.document("orders"), "limits:\n  per_user: 5\nclients:\n  billing:\n    timeout: 2s\n"; got != want {
		t.Errorf("after the rollback\n%s, want\n%s", got, want)
	}
	matches(t, "history", must(t, "history", "orders"), `\n?4 \(newest\) .* rollback to version 1\n`)
	fails(t, "no_such_version", 0, "rollback", "orders", "17")
	matches(t, "history of none", must(t, "history", "payments"), `^$`)

	// Past the commands.
	if _, err := w.client.Put(t.Context(), "/plinth/config/orders", "limits: {per_user: 9}"); err != nil {
		t.Fatal(err)
	}
	matches(t, "past the commands", must(t, "history", "orders"), `\n- \(newest\) .* unknown `)
	must(t, "set", "orders", "limits.per_user=10")
	matches(t, "it is kept", must(t, "history", "orders"), `(?s)\n6 \(newest\).*\n5 .* unknown .*\n4 `)
}

// TestDocumentIsSaid: a name that was left out does not make a change of one service
// one of all of them, and a name that no service can have is wrong use, said before
// etcd is asked.
func TestDocumentIsSaid(t *testing.T) {
	t.Setenv(access.EnvEndpoints, "")
	const no = ` cannot be a service's name`
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"rollback", "hello"}, "the document is hello, but VERSION is missing"},
		{[]string{"rollback", "3"}, `the document comes first, and "3"` + no},
		{[]string{"rollback"}, "which document was not said"},
		{[]string{"set", "a.b=1"}, `"a.b=1"` + no},
		{[]string{"set", "bad name", "a=1"}, `"bad name"` + no},
		{[]string{"set", "--file", "default.yaml"}, "which document was not said"},
		{[]string{"diff", "default.yaml"}, `"default.yaml"` + no},
		{[]string{"diff", "a.b=1"}, `"a.b=1"` + no},
		{[]string{"diff", "hello"}, "FILE|KEY=VALUE is missing"},
		{[]string{"diff", "--unset", "a"}, "which document was not said"},
		{[]string{"get"}, "which document was not said"},
		{[]string{"get", "clients.default.timeout"}, `"clients.default.timeout"` + no},
		{[]string{"get", "Hello"}, `"Hello"` + no},
		{[]string{"get", "hello-"}, `"hello-"` + no},
		{[]string{"get", "hello", "a", "b"}, "3 arguments, at most 2 are allowed"},
		{[]string{"history"}, "which document was not said"},
		{[]string{"history", "hello/1"}, `"hello/1"` + no},
	} {
		e := fails(t, "usage", ui.ExitUsage, tt.args...)
		both := "scaffold config " + tt.args[0] + " "
		if !strings.Contains(e.Message, tt.says) || !strings.Contains(e.Hint, both+"SERVICE") || !strings.Contains(e.Hint, both+"default") {
			t.Errorf("%q: %s\nhint: %s\nwant %q and both forms", tt.args, e.Message, e.Hint, tt.says)
		}
	}
	for _, name := range []string{"a", "default", "orders-2", strings.Repeat("a", 63)} {
		fails(t, "no_endpoints", ui.ExitUsage, "get", name)
	}
}

// TestLocking: nobody overwrites what he has not seen.
func TestLocking(t *testing.T) {
	w := newWorld(t)
	var first struct {
		Revision int64 `json:"revision"`
	}
	if err := json.Unmarshal([]byte(must(t, "set", "orders", "a.b=1", "--json")), &first); err != nil || first.Revision == 0 {
		t.Fatal(err)
	}
	at := strconv.FormatInt(first.Revision, 10)
	must(t, "set", "orders", "a.b=2", "--revision", at, "--author", "bob@desk")
	e := fails(t, "conflict", 0, "set", "orders", "a.b=3", "--revision", at)
	matches(t, "the conflict", e.Message, `^the document orders is at revision \d+, not `+at+`: version 2 was written by bob@desk at 20`)
	matches(t, "the next step", e.Hint, `^scaffold config get orders`)
	fails(t, "conflict", 0, "rollback", "orders", "1", "--revision", at)
	fails(t, "conflict", 0, "set", "orders", "a.b=3", "--revision", "0")
	if got := w.document("orders"); got != "a:\n  b: 2\n" {
		t.Errorf("the document is %q", got)
	}
}

// TestChecks: what services would not take is not written.
func TestChecks(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, "f.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct{ text, says string }{
		{"a: {", "not YAML"},
		{"clients: {billing: {timeout: 2}}", "document line 1: clients.billing.timeout: \"2\" is not a duration"},
		{"server: {grpc: {addr: ':1'}}", "is read at the start only"},
		{"telemetry: {log: {leveel: info}}", "did you mean telemetry.log.level?"},
	} {
		e := fails(t, "invalid_document", 0, "set", "orders", "--file", file(tt.text))
		if len(e.Detail) == 0 || !strings.Contains(e.Detail[0], tt.says) {
			t.Errorf("%q: %+v", tt.text, e)
		}
		fails(t, "invalid_document", ui.ExitUsage, "diff", "orders", file(tt.text))
	}
	if got := w.document("orders"); got != "" {
		t.Errorf("the document is %q", got)
	}
	must(t, "set", "orders", "--file", file("clients: {billing: {timeout: 2}}\n"), "--force")
	if got := w.document("orders"); got != "clients: {billing: {timeout: 2}}\n" {
		t.Errorf("with --force the document is %q", got)
	}
	fails(t, "invalid_document", 0, "set", "orders", "--file", file("a: {"), "--force")
	if _, _, err := scaffold(t, "limits: {per_user: 3} # mine\n", "set", "orders", "--file", "-"); err != nil || w.document("orders") != "limits: {per_user: 3} # mine\n" {
		t.Errorf("from standard input: %v, %q", err, w.document("orders"))
	}
	fails(t, "no_file", ui.ExitUsage, "set", "orders", "--file", filepath.Join(dir, "none"))
	fails(t, "not_editable", 0, "set", "orders", "limits.per_user.x=1")
	for _, args := range [][]string{
		{"set", "orders"}, {"set", "orders", "nonsense"}, {"set", "orders", "=1"}, {"set", "orders", "a=1", "--file", "x"}, {"get", "a", "b", "c"},
		{"rollback", "orders", "latest"}, {"rollback"}, {"diff"}, {"diff", "a", "b", "c"}, {"nope"},
		{"set", "orders", "a..b=1"}, {"set", "orders", ".a=1"}, {"set", "orders", "a=1", "--revision", "-5"}, {"rollback", "orders", "1", "--revision", "-5"},
	} {
		fails(t, "usage", ui.ExitUsage, args...)
	}
}

func TestDiff(t *testing.T) {
	w := newWorld(t)
	must(t, "set", "orders", "limits.per_user=5", "limits.burst=1")
	path := filepath.Join(t.TempDir(), "f.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := w.document("orders")
	write(before)
	if out := must(t, "diff", "orders", path); out != "nothing would change\n" {
		t.Errorf("output %q", out)
	}
	for _, tt := range []struct {
		text  string
		args  []string
		want  string
		count string
	}{
		{"limits: {per_user: 6, more: 1}\n", []string{"orders", path}, "- limits.burst: 1\n+ limits.more: 1\n- limits.per_user: 5\n+ limits.per_user: 6\n", "3 keys of orders would change\n"},
		{"# new\n" + before, []string{"orders", path}, "the keys and values are the same; the text differs\n", ""},
		{"", []string{"orders", "limits.per_user=7"}, "- limits.per_user: 5\n+ limits.per_user: 7\n", "1 key of orders would change\n"},
		{"", []string{"orders", "--unset", "limits.burst"}, "- limits.burst: 1\n", "1 key of orders would change\n"},
		{"", []string{"default", "limits.per_user=7"}, "+ limits.per_user: 7\n", "1 key of default would change\n"},
		{"limits: {per_user: 8}\n", []string{"default", path}, "+ limits.per_user: 8\n", "1 key of default would change\n"},
	} {
		write(tt.text)
		out, note, err := scaffold(t, "", append([]string{"diff"}, tt.args...)...)
		e, ok := errors.AsType[*ui.Error](err)
		if !ok || e.Exit != 1 || e.Code != "differs" || !e.Outcome || out != tt.want {
			t.Errorf("diff %q: %v\n%s\nwant\n%s", tt.args, err, out, tt.want)
		}
		if _, count, _ := strings.Cut(note, "\n"); count != tt.count {
			t.Errorf("diff %q ends with %q, want %q", tt.args, count, tt.count)
		}
	}
	if w.document("orders") != before {
		t.Error("diff has written")
	}
	t.Setenv(access.EnvEndpoints, "127.0.0.1:1")
	fails(t, "etcd_unreachable", ui.ExitUsage, "diff", "orders", "a=1")
	fails(t, "etcd_unreachable", 0, "get", "orders")
}

func TestJSON(t *testing.T) {
	newWorld(t)
	lines := func(args ...string) (out []map[string]any) {
		t.Helper()
		text, _, _ := scaffold(t, "", append(args, "--json")...)
		for line := range strings.Lines(text) {
			var object map[string]any
			if err := json.Unmarshal([]byte(line), &object); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			out = append(out, object)
		}
		if len(out) == 0 || out[len(out)-1]["type"] != "result" {
			t.Fatalf("%v: the last line is no result: %v", args, out)
		}
		return out
	}
	if got := lines("set", "orders", "a.b=1", "-m", "why")[0]; got["ok"] != true || got["changed"] != true || got["version"] != 1.0 || fmt.Sprint(got["changes"]) != "[map[after:1 before:<nil> key:a.b]]" {
		t.Errorf("set: %v", got)
	}
	if got := lines("get", "orders")[0]; got["data"] != "a:\n  b: 1\n" || got["document"] != "orders" || got["message"] != "why" || got["revision"] == 0.0 {
		t.Errorf("get: %v", got)
	}
	if got := lines("get", "orders", "a.b"); len(got) != 2 || got[0]["value"] != "1" || !strings.HasPrefix(fmt.Sprint(got[0]["source"]), "orders line 2") {
		t.Errorf("get a key: %v", got)
	}
	if got := lines("diff", "orders", "a.b=2")[0]; got["changed"] != true || len(got["changes"].([]any)) != 1 {
		t.Errorf("diff: %v", got)
	}
	if got := lines("history", "orders"); len(got) != 2 || got[0]["newest"] != true || got[0]["in_use"] != nil || got[0]["author"] == "" {
		t.Errorf("history: %v", got)
	}
	if got := lines("rollback", "orders", "1")[0]; got["changed"] != false {
		t.Errorf("rollback to what is there: %v", got)
	}
}
