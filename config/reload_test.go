package config_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/config"
)

// shop has hot and cold keys beside and below one another.
type shop struct {
	Addr   string        `yaml:"addr"`
	DSN    config.Secret `yaml:"dsn"`
	Limits struct {
		Low  int `hot:"true"  yaml:"low"`
		High int `yaml:"high"`
	} `yaml:"limits"`
	Clients map[string]clientOf      `hot:"true" yaml:"clients"`
	Static  map[string][]string      `yaml:"static"`
	Tokens  map[string]config.Secret `hot:"true" yaml:"tokens"`
}

func (s *shop) Validate() error {
	if s.Limits.Low > s.Limits.High {
		return config.Invalid("limits.low", "is above high, %d", s.Limits.High)
	}
	return nil
}

func defaultShop() shop {
	s := shop{Addr: ":1"}
	s.Limits.Low, s.Limits.High = 1, 10
	return s
}

// doc is a configuration file that a test changes.
type doc struct {
	t    testing.TB
	path string
}

func newDoc(t testing.TB, content string) *doc {
	t.Helper()
	d := &doc{t, filepath.Join(t.TempDir(), "app.yaml")}
	d.write(content)
	return d
}

func (d *doc) write(content string) {
	d.t.Helper()
	if err := os.WriteFile(d.path, []byte(content), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// watch loads the file and watches a section of it.
func watch[T any](t testing.TB, d *doc, path string, defaults T, opts ...config.Option) (*config.Config, *config.Value[T]) {
	t.Helper()
	c, err := config.Load(append(opts, config.WithFile(d.path, true))...)
	if err != nil {
		t.Fatal(err)
	}
	v, err := config.Watch(c, path, defaults)
	if err != nil {
		t.Fatal(err)
	}
	return c, v
}

func entry(t testing.TB, c *config.Config, key string) config.Entry {
	t.Helper()
	for _, e := range c.Entries() {
		if e.Key == key {
			return e
		}
	}
	t.Fatalf("no entry %s", key)
	return config.Entry{}
}

// TestReload changes one file again and again.
func TestReload(t *testing.T) {
	d := newDoc(t, "addr: :2\ndsn: hunter1\nlimits: {low: 2}\nclients: {a: {timeout: 1s}}\nstatic: {x: [a]}\n")
	c, v := watch(t, d, "", defaultShop(),
		config.WithEnviron([]string{"PLINTH_CLIENTS_B_TIMEOUT=7s"}), config.WithFlags([]string{"clients.c.timeout=8s"}))
	if s := c.Status(); !s.At.IsZero() || s.Err != nil || s.Restart != nil {
		t.Errorf("status before the first reload: %+v", s)
	}
	for _, step := range []struct {
		name, file string
		applied    []string
		restart    []string
		err        string // the rest is not looked at
		low        int
		timeout    time.Duration
	}{
		{name: "nothing changed", file: "addr: :2\ndsn: hunter1\nlimits: {low: 2}\nclients: {a: {timeout: 1s}}\nstatic: {x: [a]}\n", low: 2, timeout: time.Second},
		{name: "two hot keys", file: "addr: :2\ndsn: hunter1\nlimits: {low: 3}\nclients: {a: {timeout: 2s}}\nstatic: {x: [a]}\n", applied: []string{"clients.a.timeout", "limits.low"}, low: 3, timeout: 2 * time.Second},
		{name: "hot and cold", file: "addr: :3\ndsn: hunter2\nlimits: {low: 4}\nclients: {a: {timeout: 2s}}\nstatic: {y: [a]}\n", applied: []string{"limits.low"}, restart: []string{"addr", "dsn", "static.x", "static.y"}, low: 4, timeout: 2 * time.Second},
		{name: "cold again as at the start", file: "addr: :2\ndsn: hunter1\nlimits: {low: 4}\nclients: {a: {timeout: 2s}}\nstatic: {x: [a]}\n", low: 4, timeout: 2 * time.Second},
		{name: "one value is bad", file: "addr: :2\nlimits: {low: 5}\nclients: {a: {timeout: 2}}\n", err: `app.yaml:3: clients.a.timeout: "2" is not a duration`, low: 4, timeout: 2 * time.Second},
		{name: "a cold value is bad", file: "limits: {low: 5, high: many}\n", err: `limits.high: "many" is not a whole number`, low: 4, timeout: 2 * time.Second},
		{name: "an unknown key", file: "limits: {low: 5, hihg: 2}\n", err: "limits.hihg: is not a known key, did you mean limits.high?", low: 4, timeout: 2 * time.Second},
		{name: "an unknown section", file: "limits: {low: 5}\nother: 1\n", err: "other: is not a known key", low: 4, timeout: 2 * time.Second},
		{name: "not valid", file: "limits: {low: 50}\n", err: `limits.low: "50" is above high, 10`, low: 4, timeout: 2 * time.Second},
		{name: "valid only after a restart", file: "limits: {low: 50, high: 60}\n", err: "combine the hot values with those that need a restart: " + "PATH" + `:1: limits.low: "50" is above high, 10`, low: 4, timeout: 2 * time.Second},
		{name: "valid only without a restart", file: "limits: {low: 4, high: 3}\n", err: `"4" is above high, 3`, low: 4, timeout: 2 * time.Second},
		{name: "not YAML", file: "limits: {low: 5\n", err: "app.yaml:", low: 4, timeout: 2 * time.Second},
		{name: "a key vanishes and one comes", file: "addr: :2\ndsn: hunter1\nclients: {z: {methods: {Get: {timeout: 3s}}}}\nstatic: {x: [a]}\n", applied: []string{
			"clients.a.balancer", "clients.a.retry.max_attempts", "clients.a.timeout", "clients.z.balancer",
			"clients.z.methods.Get.retry.max_attempts", "clients.z.methods.Get.timeout", "clients.z.retry.max_attempts", "clients.z.timeout", "limits.low",
		}, low: 1},
		{name: "a hot secret", file: "addr: :2\ndsn: hunter1\nclients: {z: {methods: {Get: {timeout: 3s}}}}\nstatic: {x: [a]}\ntokens: {t: hunter3}\n", applied: []string{"tokens.t"}, low: 1},
		{name: "another hot secret", file: "addr: :2\ndsn: hunter1\nclients: {z: {methods: {Get: {timeout: 3s}}}}\nstatic: {x: [a]}\ntokens: {t: hunter4}\n", applied: []string{"tokens.t"}, low: 1},
		{name: "an empty file", file: "", applied: []string{
			"clients.z.balancer", "clients.z.methods.Get.retry.max_attempts", "clients.z.methods.Get.timeout", "clients.z.retry.max_attempts", "clients.z.timeout", "tokens.t",
		}, restart: []string{"addr", "dsn", "static.x"}, low: 1},
	} {
		d.write(step.file)
		before := c.Status()
		change, err := c.Reload()
		got := v.Get()
		switch want := strings.ReplaceAll(step.err, "PATH", d.path); {
		case want != "":
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %s", step.name, err, want)
			}
			if s := c.Status(); !errors.Is(s.Err, err) || !slices.Equal(s.Restart, before.Restart) || s.At.Before(before.At) {
				t.Errorf("%s: status %+v", step.name, s)
			}
		case err != nil:
			t.Errorf("%s: %v", step.name, err)
		default:
			if !slices.Equal(change.Applied, step.applied) || !slices.Equal(change.Restart, step.restart) {
				t.Errorf("%s: %+v, want %q and %q", step.name, change, step.applied, step.restart)
			}
			if s := c.Status(); s.Err != nil || !slices.Equal(s.Restart, step.restart) {
				t.Errorf("%s: status %+v", step.name, s)
			}
		}
		if err != nil && strings.Contains(err.Error(), "hunter") || strings.Contains(fmt.Sprint(c.Entries()), "hunter") {
			t.Errorf("%s: a secret is shown", step.name)
		}
		if got.Limits.Low != step.low || got.Clients["a"].Timeout != step.timeout {
			t.Errorf("%s: low %d, timeout %v", step.name, got.Limits.Low, got.Clients["a"].Timeout)
		}
		if got.Addr != ":2" || got.DSN != "hunter1" || !reflect.DeepEqual(got.Static, map[string][]string{"x": {"a"}}) {
			t.Errorf("%s: a cold value changed: %+v", step.name, got)
		}
		if got.Clients["b"].Timeout != 7*time.Second || got.Clients["c"].Timeout != 8*time.Second {
			t.Errorf("%s: the environment and the command line are lost: %+v", step.name, got.Clients)
		}
	}
	if e := entry(t, c, "addr"); e.Value != ":2" || e.Hot || e.Source.Line != 1 {
		t.Errorf("addr is %+v, want the running value", e)
	}
	if e := entry(t, c, "limits.low"); !e.Hot || e.Source.Kind != config.KindDefault {
		t.Errorf("limits.low is %+v", e)
	}
}

// TestEntriesFollowTheFile: a cold value that only moved is found where it
// stands now.
func TestEntriesFollowTheFile(t *testing.T) {
	d := newDoc(t, "addr: :2\n")
	c, _ := watch(t, d, "", defaultShop())
	d.write("# moved\n\naddr: :2\n")
	if change, err := c.Reload(); err != nil || change.Restart != nil {
		t.Fatal(change, err)
	}
	if e := entry(t, c, "addr"); e.Source.Line != 3 {
		t.Errorf("addr stands on line %d, want 3", e.Source.Line)
	}
}

// TestWatchWithoutTags: where nothing is tagged all keys are hot, and what Bind
// reads never changes.
func TestWatchWithoutTags(t *testing.T) {
	d := newDoc(t, "a: {timeout: 1s}\nb: {timeout: 1s}\n")
	c, hot := watch(t, d, "a", common{})
	cold, err := config.Bind(c, "b", common{})
	if err != nil {
		t.Fatal(err)
	}
	d.write("a: {timeout: 2s}\nb: {timeout: 2s}\n")
	change, err := c.Reload()
	if err != nil || !slices.Equal(change.Applied, []string{"a.timeout"}) || !slices.Equal(change.Restart, []string{"b.timeout"}) {
		t.Fatal(change, err)
	}
	if hot.Get().Timeout != 2*time.Second || cold.Timeout != time.Second {
		t.Error(hot.Get(), cold)
	}
	// What is bound late has cold keys of the start as well.
	if late, err := config.Bind(c, "b", common{}); err != nil || late.Timeout != time.Second {
		t.Errorf("bound late: %v, %v", late, err)
	}
	if late, err := config.Watch(c, "a", common{}); err != nil || late.Get().Timeout != 2*time.Second {
		t.Errorf("watched late: %v, %v", late, err)
	}
	if _, err := config.Watch(c, "a", 5); err == nil || !strings.Contains(err.Error(), "int is not a struct") {
		t.Errorf("not a struct: %v", err)
	}
	type tree struct {
		N     int             `yaml:"n"`
		Below map[string]tree `yaml:"below"`
	}
	if _, err := config.Watch(c, "t", tree{}); err != nil {
		t.Errorf("a struct below itself: %v", err)
	}
}

// TestVanished: a file that was there at the start must stay, any other need not.
func TestVanished(t *testing.T) {
	d := newDoc(t, "timeout: 1s\n")
	c, v := watch(t, d, "", common{})
	if err := os.Remove(d.path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reload(); !errors.Is(err, os.ErrNotExist) || v.Get().Timeout != time.Second {
		t.Errorf("gone: %v, %v", err, v.Get())
	}
	c, err := config.Load(config.WithFile(d.path, false))
	if err != nil {
		t.Fatal(err)
	}
	if v, err = config.Watch(c, "", common{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reload(); err != nil {
		t.Errorf("never there: %v", err)
	}
	d.write("timeout: 3s\n")
	if _, err := c.Reload(); err != nil || v.Get().Timeout != 3*time.Second {
		t.Errorf("there at last: %v, %v", err, v.Get())
	}
	if err := os.Remove(d.path); err != nil {
		t.Fatal(err)
	}
	change, err := c.Reload()
	if err != nil || c.Status().Err != nil || v.Get().Timeout != 0 || !slices.Equal(change.Applied, []string{"timeout"}) {
		t.Errorf("gone again: %v, %+v, %v, want the values of the start", err, change, v.Get())
	}
}

// TestOnChange: functions are called in order, once for each change, also where
// one of them reloads or panics.
func TestOnChange(t *testing.T) {
	d := newDoc(t, "a: {timeout: 1s}\n")
	c, a := watch(t, d, "a", common{})
	b, err := config.Watch(c, "b", common{})
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	note := func(who string) func(old, current common) {
		return func(old, current common) {
			calls = append(calls, fmt.Sprintf("%s %v %v", who, old.Timeout, current.Timeout))
		}
	}
	a.OnChange(note("a"))
	a.OnChange(func(old, current common) {
		note("again")(old, current)
		if current.Timeout == 2*time.Second {
			d.write("a: {timeout: 3s}\nb: {timeout: 3s}\n")
			if _, err := c.Reload(); err != nil {
				t.Error(err)
			}
			calls = append(calls, "reloaded")
		}
		if current.Timeout == 4*time.Second {
			panic("four")
		}
	})
	b.OnChange(note("b"))
	reload := func(file string) {
		d.write(file)
		if _, err := c.Reload(); err != nil {
			t.Error(err)
		}
	}
	reload("a: {timeout: 1s}\n# nothing\n")
	reload("a: {timeout: 2s}\nb: {timeout: 2s}\n")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		reload("a: {timeout: 4s}\nb: {timeout: 4s}\n")
	}()
	reload("a: {timeout: 5s}\nb: {timeout: 4s}\n")
	want := []string{
		"a 1s 2s", "again 1s 2s", "reloaded", "b 0s 2s", "a 2s 3s", "again 2s 3s", "b 2s 3s",
		"a 3s 4s", "again 3s 4s", "b 3s 4s", "a 4s 5s", "again 4s 5s",
	}
	if !slices.Equal(calls, want) {
		t.Errorf("calls\n%q\nwant\n%q", calls, want)
	}
}

// TestNeverHalf writes 1000 random documents, good and bad. After each one all
// values are those of it, or those of the last good one.
func TestNeverHalf(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	d := newDoc(t, "")
	c, whole := watch(t, d, "", defaultShop())
	other, err := config.Watch(c, "other", common{})
	if err != nil {
		t.Fatal(err)
	}
	type values struct {
		low     int
		timeout time.Duration
		retry   int
		other   time.Duration
	}
	read := func() values {
		w := whole.Get()
		return values{w.Limits.Low, w.Clients["a"].Timeout, w.Clients["a"].Methods["Get"].Retry.MaxAttempts, other.Get().Timeout}
	}
	want := read()
	good, bad := 0, 0
	for i := range 1000 {
		next := values{random.IntN(9) + 1, time.Duration(random.IntN(9)) * time.Second, random.IntN(9), time.Duration(i) * time.Second}
		lines := []string{
			fmt.Sprintf("limits: {low: %d}", next.low),
			fmt.Sprintf("clients: {a: {timeout: %v, methods: {Get: {retry: {max_attempts: %d}}}}}", next.timeout, next.retry),
			fmt.Sprintf("other: {timeout: %v}", next.other),
			fmt.Sprintf("addr: :%d", random.IntN(9)),
		}
		broken := random.IntN(2) == 0
		if broken {
			lines = append(lines, []string{
				"limits.low: 3", "nobody: 1", "clients.b.timeout: 3", "other.timeuot: 1s", "tokens: [a]", "a: {b", "static.x: {y: {z: 1}}", "\tx: 1",
				"limits.high: 0", "dsn: {a: b}", "addr: :7", "? [a]\n: b", "clients.a.methods.Get.retry.max_attempts: x",
			}[random.IntN(13)])
		}
		random.Shuffle(len(lines), func(a, b int) { lines[a], lines[b] = lines[b], lines[a] })
		d.write(strings.Join(lines, "\n"))
		if _, err := c.Reload(); (err != nil) != broken {
			t.Fatalf("error %v for\n%s", err, strings.Join(lines, "\n"))
		}
		if broken {
			bad++
		} else {
			good, want = good+1, next
		}
		if got := read(); got != want {
			t.Fatalf("values %+v, want %+v, after\n%s", got, want, strings.Join(lines, "\n"))
		}
		if got := entry(t, c, "other.timeout").Value; got != want.other.String() {
			t.Fatalf("shown as %s, want %v", got, want.other)
		}
	}
	if good < 300 || bad < 300 {
		t.Errorf("%d good and %d bad documents prove little", good, bad)
	}
}

// TestOneStep: values of one document are never seen apart, and never run
// backwards, while documents change under many readers and binders.
func TestOneStep(t *testing.T) {
	d := newDoc(t, "a: {timeout: 0s}\nb: {timeout: 0s}\n")
	c, a := watch(t, d, "a", common{})
	b, err := config.Watch(c, "b", common{})
	if err != nil {
		t.Fatal(err)
	}
	var end atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !end.Load() {
				first, second, third := a.Get().Timeout, b.Get().Timeout, a.Get().Timeout
				if first > second || second > third {
					t.Errorf("saw %v, then %v, then %v", first, second, third)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for !end.Load() {
			if _, err := config.Bind(c, "a", common{}); err != nil {
				t.Error(err)
			}
			_, _ = c.Entries(), c.Status()
		}
	})
	wg.Go(func() {
		for !end.Load() {
			if _, err := c.Reload(); err != nil && !strings.Contains(err.Error(), "seconds") {
				t.Error(err)
			}
		}
	})
	told := time.Duration(0)
	b.OnChange(func(old, current common) {
		if old.Timeout != told || current.Timeout <= old.Timeout {
			t.Errorf("told %v after %v, before %v", current.Timeout, old.Timeout, told)
		}
		told = current.Timeout
	})
	for i := 1; i <= 200; i++ {
		// A rename, so that no reader sees half of a file.
		next := filepath.Join(filepath.Dir(d.path), "next")
		if err := os.WriteFile(next, fmt.Appendf(nil, "a: {timeout: %ds}\nb: {timeout: %ds}\n", i, i), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, d.path); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Reload(); err != nil {
			t.Fatal(err)
		}
		if got := b.Get().Timeout; got != time.Duration(i)*time.Second {
			t.Fatalf("%v after reload %d", got, i)
		}
	}
	end.Store(true)
	wg.Wait()
}

func BenchmarkGet(b *testing.B) {
	d := newDoc(b, "")
	_, v := watch(b, d, "", common{})
	b.ReportAllocs()
	for b.Loop() {
		_ = v.Get()
	}
}

// TestColdWithinHot: a key that is tagged so needs a restart, though it stands
// in a section that is hot, and though the section is new.
func TestColdWithinHot(t *testing.T) {
	type peer struct {
		Timeout time.Duration `yaml:"timeout"`
		Target  string        `hot:"false" yaml:"target"`
	}
	type peers struct {
		Peers map[string]peer `hot:"true" yaml:"peers"`
	}
	d := newDoc(t, "peers: {a: {timeout: 1s, target: one}}\n")
	c, v := watch(t, d, "", peers{})
	d.write("peers: {a: {timeout: 2s, target: two}, b: {timeout: 3s, target: three}}\n")
	change, err := c.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if applied, restart := []string{"peers.a.timeout", "peers.b.timeout"}, []string{"peers.a.target", "peers.b.target"}; !slices.Equal(change.Applied, applied) || !slices.Equal(change.Restart, restart) {
		t.Errorf("%+v, want %q and %q", change, applied, restart)
	}
	if got, want := v.Get().Peers, map[string]peer{"a": {2 * time.Second, "one"}, "b": {3 * time.Second, ""}}; !reflect.DeepEqual(got, want) {
		t.Errorf("in use are %+v, want %+v", got, want)
	}
	if entry(t, c, "peers.a.target").Hot || !entry(t, c, "peers.a.timeout").Hot {
		t.Error("the entries do not say which key is hot")
	}
	for _, k := range config.Describe(peers{}) {
		if k.Hot != (k.Path == "peers.<name>.timeout") {
			t.Errorf("described as %+v", k)
		}
	}
}
