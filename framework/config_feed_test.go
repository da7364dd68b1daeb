package framework_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/config"
	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/internal/loopback"
	"plinth.internal/internal/processors"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/etcd/embedded"
)

// store is an etcd with central documents.
type store struct {
	t      *testing.T
	addr   string
	client *clientv3.Client
	server *embedded.Server
}

func newStore(t *testing.T) *store {
	t.Helper()
	var addresses loopback.Addresses
	addr, err := addresses.Next()
	if err != nil {
		t.Fatal(err)
	}
	client, err := etcd.Dial(etcd.Config{Endpoints: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t, addr: addr, client: client}
	t.Cleanup(func() {
		client.Close()
		if s.server != nil {
			s.server.Close()
		}
	})
	return s
}

func (s *store) start() *store {
	s.t.Helper()
	server, err := embedded.Start(s.t.TempDir(), embedded.WithClientAddr(s.addr))
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = server
	return s
}

// write changes a document and returns its revision.
func (s *store) write(name, text string) int64 {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	response, err := s.client.Put(ctx, "/plinth/config/"+name, text)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.Header.GetRevision()
}

// follower is an app that follows central documents.
type centralApp struct {
	*framework.App

	limits *config.Value[limits]
	logs   *lockedBuffer
	stop   func()
}

// app runs a service on that etcd until the end of the test or stop.
func (s *store) app(name, snapshots string, opts ...framework.Option) *centralApp {
	s.t.Helper()
	a := &centralApp{logs: &lockedBuffer{}}
	var err error
	a.App, err = framework.New(name, func(_ context.Context, s *framework.Service) (err error) {
		a.limits, err = config.Watch(s.Config(), "limits", limits{PerUser: 1, Table: "users"})
		return err
	}, slices.Concat([]framework.Option{
		framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(io.MultiWriter(a.logs, s.t.Output())),
		framework.WithSetting("registry.endpoints", s.addr), framework.WithSetting("registry.snapshot_dir", snapshots),
		framework.WithSetting("server.grpc.addr", ""), framework.WithSetting("server.admin.addr", "127.0.0.1:0"),
	}, opts)...)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("stop %s: %v", name, err)
		}
	})
	s.t.Cleanup(a.stop)
	select {
	case <-a.Ready():
	case err := <-done:
		done <- nil
		s.t.Fatalf("start %s: %v", name, err)
	}
	return a
}

// page reads a page of the admin listener.
func (a *centralApp) page(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get("http://" + a.Endpoints()["admin"] + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func (a *centralApp) config(t *testing.T) framework.ConfigDocument {
	t.Helper()
	var doc framework.ConfigDocument
	if err := json.Unmarshal([]byte(a.page(t, "/debug/config")), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// check is the configuration's check in /health, and the status of all.
func (a *centralApp) check() (status string, check framework.CheckHealth) {
	doc := a.Health()
	i := slices.IndexFunc(doc.Checks, func(c framework.CheckHealth) bool { return c.Name == "config" })
	return doc.Status, doc.Checks[i]
}

// TestCentralConfig changes the documents of a running service: hot keys of its own
// and of the framework, and documents that cannot be used.
func TestCentralConfig(t *testing.T) {
	s := newStore(t).start()
	s.write("default", "telemetry: {log: {level: warn}}\nbilling: {fast: true}\n")
	s.write("orders", "limits: {per_user: 2}\n")
	a := s.app("orders", t.TempDir(), framework.WithSetting("limits.per_user", "7"))
	if got := a.limits.Get(); got.PerUser != 2 {
		t.Errorf("at the start: %+v", got)
	}
	if _, check := a.check(); check.Status != framework.HealthOK {
		t.Errorf("at the start: %+v", check)
	}
	revision := s.write("orders", "# busy\nlimits: {per_user: 3}\ntelemetry: {trace: {sample: 0.5}}\n")
	within(t, inTheEnd, "the change", func() bool { return a.limits.Get().PerUser == 3 })
	doc := a.config(t)
	if got, want := doc.Values["limits.per_user"].Source, fmt.Sprintf("etcd /plinth/config/orders line 2 (revision %d)", revision); got != want {
		t.Errorf("the source is %q, want %q", got, want)
	}
	if doc.Values["telemetry.log.level"].Value != "warn" || doc.Values["telemetry.trace.sample"].Value != "0.5" {
		t.Errorf("the framework's keys: %+v", doc.Values["telemetry.log.level"])
	}
	c := doc.Central
	if c == nil || c.Error != "" || len(c.Documents) != 2 || c.Documents[1].Revision != revision || c.Documents[1].Kept != "" ||
		!strings.HasPrefix(c.Ignored["billing.fast"], "etcd /plinth/config/default line 2") {
		t.Errorf("central documents: %+v", c)
	}
	if got := a.page(t, "/debug/log"); !strings.Contains(got, "warn") {
		t.Errorf("the level is %s", got)
	}
	if got := a.page(t, "/metrics"); !strings.Contains(got, fmt.Sprintf(`plinth_config_revision{document="service"} %d`, revision)) {
		t.Error("the metrics do not tell the revision")
	}

	// One that is bad changes nothing, and holds up no other.
	s.write("orders", "limits: {per_user: 4}\nserver: {admin: {addr: ':1'}}\n")
	within(t, inTheEnd, "the bad document", func() bool { _, check := a.check(); return check.Status == framework.HealthDown })
	status, check := a.check()
	if status != framework.HealthDegraded || !strings.Contains(check.Error, "etcd /plinth/config/orders line 2") || !strings.Contains(check.Error, "server.admin.addr: is read at the start only") {
		t.Errorf("%s: %+v", status, check)
	}
	if got := a.page(t, "/metrics"); a.limits.Get().PerUser != 3 || !strings.Contains(got, "plinth_config_valid 0") || !strings.Contains(got, `plinth_config_reloads_total{outcome="rejected"} 1`) {
		t.Errorf("after a bad document: %+v", a.limits.Get())
	}
	s.write("default", "telemetry: {log: {level: info}}\n")
	within(t, inTheEnd, "the other document", func() bool { return strings.Contains(a.page(t, "/debug/log"), "info") })
	last := s.write("orders", "limits: {per_user: 5}\n")
	within(t, inTheEnd, "a good document", func() bool { _, check := a.check(); return check.Status == framework.HealthOK })
	within(t, inTheEnd, "the log", func() bool {
		for line := range strings.Lines(a.logs.String()) {
			if strings.Contains(line, "configuration changed") && strings.Contains(line, `"limits.per_user"`) && strings.Contains(line, fmt.Sprintf("/plinth/config/orders (revision %d)", last)) {
				return true
			}
		}
		return false
	})
}

// TestCentralConfigStart starts while etcd is down, with and without what was kept,
// and while the document is bad.
func TestCentralConfigStart(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	begun := time.Now()
	a := s.app("orders", dir)
	if took := time.Since(begun); took > 1500*time.Millisecond {
		t.Errorf("the start took %v without an etcd", took)
	}
	if _, check := a.check(); a.limits.Get().PerUser != 1 || check.Status != framework.HealthDown || !strings.Contains(check.Error, "does not answer") {
		t.Errorf("without anything: %+v, %+v", a.limits.Get(), check)
	}
	if !strings.Contains(a.logs.String(), "started without central configuration as it is now") {
		t.Error("the log does not say so")
	}
	s.start()
	good := s.write("orders", "limits: {per_user: 2}\n")
	within(t, 10*time.Second, "etcd, which came later", func() bool {
		_, check := a.check()
		return a.limits.Get().PerUser == 2 && check.Status == framework.HealthOK
	})
	s.write("orders", "limits: {per_user: many}\n")
	within(t, inTheEnd, "the bad document", func() bool { _, check := a.check(); return check.Status == framework.HealthDown })
	a.stop()

	says := func(a *centralApp, why string) {
		t.Helper()
		status, check := a.check()
		if a.limits.Get().PerUser != 2 || status != framework.HealthDegraded || !strings.Contains(check.Error, why) || !strings.Contains(check.Error, fmt.Sprintf("in use is revision %d, kept on disk since 20", good)) {
			t.Errorf("%+v, %s: %+v", a.limits.Get(), status, check)
		}
		if doc := a.config(t); doc.Central.Documents[1].Kept == "" || doc.Central.Documents[1].Revision != good {
			t.Errorf("central documents: %+v", doc.Central)
		}
		if got := a.page(t, "/metrics"); !strings.Contains(got, "plinth_config_valid 0") || !strings.Contains(got, `plinth_config_reloads_total{outcome="fallback"} 1`) {
			t.Error("the metrics do not tell of it")
		}
	}
	a = s.app("orders", dir)
	says(a, `"many" is not a whole number`)
	a.stop()

	s.server.Close()
	begun = time.Now()
	a = s.app("orders", dir)
	if took := time.Since(begun); took > 1500*time.Millisecond {
		t.Errorf("the start took %v without an etcd", took)
	}
	says(a, "does not answer")
	a.stop()
	if other := s.app("billing", dir); other.limits.Get().PerUser != 1 {
		t.Errorf("another service takes what was kept of orders: %+v", other.limits.Get())
	}
}

// TestCentralConfigOff: documents can be left alone, and other sources taken.
func TestCentralConfigOff(t *testing.T) {
	s := newStore(t).start()
	s.write("orders", "limits: {per_user: 2}\n")
	a := s.app("orders", "off", framework.WithSetting("config.source", "none"))
	if doc := a.config(t); doc.Central != nil || a.limits.Get().PerUser != 1 {
		t.Errorf("%+v, %+v", doc.Central, a.limits.Get())
	}
	feed := fixed{config.Document{Name: "my own", Data: []byte("limits: {per_user: 9}\n"), Revision: 4}}
	var mine *config.Value[limits]
	app := frameworktest.Start(t, "orders", func(_ context.Context, s *framework.Service) (err error) {
		mine, err = config.Watch(s.Config(), "limits", limits{})
		return err
	}, framework.WithConfigFeed(feed))
	if doc := debugConfig(t, app); mine.Get().PerUser != 9 || doc.Values["limits.per_user"].Source != "my own line 1 (revision 4)" {
		t.Errorf("%+v, %+v", mine.Get(), doc.Values["limits.per_user"])
	}
	for name, settings := range map[string]map[string]string{
		"is none of etcd, none":        {"config.source": "file"},
		"but the registry is static":   {"config.source": "etcd"},
		"has a source of its own":      {"config.source": "etcd", "registry.endpoints": s.addr, "feed": "too"},
		"config.source: \"x\" is none": {"config.source": "x"},
	} {
		opts := []framework.Option{framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output())}
		for key, value := range settings {
			if key == "feed" {
				opts = append(opts, framework.WithConfigFeed(feed), framework.WithSetting("registry.snapshot_dir", "off"))
				continue
			}
			opts = append(opts, framework.WithSetting(key, value))
		}
		if _, err := framework.New("orders", func(context.Context, *framework.Service) error { return nil }, opts...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v, want %q", settings, err, name)
		}
	}
}

// fixed is a feed of one document.
type fixed struct{ document config.Document }

func (f fixed) Documents() []config.Document { return []config.Document{f.document} }
func (f fixed) Changed() <-chan struct{}     { return nil }
func (f fixed) Err() error                   { return nil }

// TestCentralConfigReachesAll: a change of either document is in use in 50 instances
// within 1 s: each change on a quiet machine, and most of them on any.
func TestCentralConfigReachesAll(t *testing.T) {
	const instances = 50
	limit := inTime
	if raceEnabled {
		limit = 20 * time.Second // what counts then is that all get it
	}
	s := newStore(t).start()
	s.write("default", "limits: {per_user: 0}\n")
	dir := t.TempDir()
	apps := make([]*centralApp, instances)
	for i := range apps {
		apps[i] = s.app("orders", dir, framework.WithSetting("server.admin.addr", ""))
	}
	var took []time.Duration
	for i, name := range []string{"default", "orders", "orders", "orders", "orders"} {
		begun, before := time.Now(), processors.Read()
		s.write(name, fmt.Sprintf("limits: {per_user: %d}\nclients: {billing: {timeout: %ds}}\n", 10+i, 10+i))
		for n, a := range apps {
			within(t, 20*time.Second, fmt.Sprintf("change %d in instance %d", i, n), func() bool { return a.limits.Get().PerUser == 10+i })
		}
		took = append(took, time.Since(begun))
		switch disturbed := !processors.Strict() && processors.Read().Since(before).Taken(); {
		case took[i] > limit && disturbed:
			t.Logf("change %d took %v while other programs had the processors: it is not judged by itself", i, took[i])
		case took[i] > limit:
			t.Errorf("change %d of %s was in use everywhere after %v, want %v", i, name, took[i], limit)
		}
	}
	t.Logf("%d instances, 5 changes were in use everywhere after %v", instances, took)
	slices.Sort(took)
	if median := took[len(took)/2]; median > limit {
		t.Errorf("a change was in use everywhere after %v, want %v", median, limit)
	}
}

// TestCentralConfigRandom: a thousand documents that are not good change nothing in a
// running service, and each is told of.
func TestCentralConfigRandom(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 50
	}
	s := newStore(t).start()
	good := s.write("orders", "limits: {per_user: 2}\nclients: {billing: {timeout: 5s}}\n")
	a := s.app("orders", t.TempDir(), framework.WithLogOutput(io.Discard))
	before := a.config(t).Values
	a.limits.OnChange(func(_, now limits) { t.Errorf("it changed to %+v", now) })
	r := rand.New(rand.NewPCG(3, 4))
	fine := []string{"limits: {per_user: %d}", "telemetry: {trace: {sample: 0.%d}}", "clients: {billing: {timeout: %ds}}"}
	bad := []string{
		"server: {grpc: {addr: ':%d'}}", "registry: {ttl: %ds}", "config: {source: none%d}", "limits: {table: t%d}", "limits: {per_user: x%d}", "limits: [%d]",
		"telemetry: {trace: {sample: 1%d}}", "telemetry: {log: {level: l%d}}", "telemetry: {trace: {endpoint: h%d}}", "clients: {billing: {attempt_timeout: -%ds}}",
		"clients: {billing: {timeout: %d}}", "clients: {billing: {balancer: b%d}}", "clients: {billing: %d}", "other: %d", "limits: {per_user: %d", "{%d", "- %d", "%d",
		"a: &a {b: *a} # %d", "\x00%d", "\t%d: 1", "limits: {per_user: 1, per_user: %d}", "---\na: 1\n---\nb: %d", "clients: {billing: {methods: {Get: {timeout: y%d}}}}",
	}
	for i := range n {
		text := fmt.Sprintf(bad[r.IntN(len(bad))], 1+r.IntN(1000)) + "\n"
		for _, f := range fine {
			if section, _, _ := strings.Cut(f, ":"); r.IntN(2) == 0 && !strings.Contains(text, section) {
				text = fmt.Sprintf(f, 1+r.IntN(9)) + "\n" + text
			}
		}
		text += fmt.Sprintf("# %d\n", i) // always another one
		revision := s.write("orders", text)
		within(t, 10*inTime, fmt.Sprintf("that %q is told of", text), func() bool {
			_, check := a.check()
			return check.Status == framework.HealthDown && strings.Contains(check.Error, fmt.Sprintf("(revision %d)", revision))
		})
		if got := a.limits.Get(); got != (limits{PerUser: 2, Table: "users"}) {
			t.Fatalf("%q changed it to %+v", text, got)
		}
	}
	doc := a.config(t)
	for key, value := range before {
		if doc.Values[key] != value {
			t.Errorf("%s is %+v, was %+v", key, doc.Values[key], value)
		}
	}
	if len(doc.Values) != len(before) || doc.Central.Documents[1].Revision != good {
		t.Errorf("%d values, were %d; %+v", len(doc.Values), len(before), doc.Central)
	}
	if got := a.page(t, "/metrics"); !strings.Contains(got, "plinth_config_valid 0") {
		t.Error("the metrics do not tell of it")
	}
}

// TestCheckDocument: the framework judges what it knows.
func TestCheckDocument(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		"clients: {billing: {timeout: 2s}}":  "",
		"limits: {per_user: 2}\nx: 1":        "",
		"clients: {billing: {timeout: 2}}":   `doc line 1: clients.billing.timeout: "2" is not a duration`,
		"server: {grpc: {addr: ':1'}}":       "is read at the start only",
		"telemetry: {log: {leveel: info}}":   "did you mean telemetry.log.level?",
		"telemetry: {trace: {sample: 2}}":    "is not a share between 0 and 1",
		"clients: {billing: {timeout: 2s}":   "not YAML",
		"registry: {static: {billing: [x]}}": "is read at the start only",
	} {
		unchecked, err := framework.CheckDocument("doc", []byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if strings.HasPrefix(text, "limits") && !slices.Equal(unchecked, []string{"limits.per_user", "x"}) {
			t.Errorf("%q: unchecked %q", text, unchecked)
		}
	}
}
