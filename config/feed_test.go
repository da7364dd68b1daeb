package config_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/config"
)

// feed is a feed of two documents that a test writes.
type feed struct {
	mu        sync.Mutex
	documents []config.Document
	changed   chan struct{}
	revision  int64
}

const (
	all = 0 // the document that is shared
	own = 1
)

func newFeed(texts ...string) *feed {
	f := &feed{changed: make(chan struct{}), documents: []config.Document{{Name: "feed all", Shared: true}, {Name: "feed own"}}}
	for i, text := range texts {
		if text != "" {
			f.write(i, text)
		}
	}
	return f
}

// write changes a document; an empty text deletes it.
func (f *feed) write(i int, text string) {
	f.change(i, func(d config.Document, revision int64) config.Document {
		d.Err, d.Data, d.Revision = nil, []byte(text), revision
		if text == "" {
			d.Data, d.Revision = nil, 0
		}
		return d
	})
}

// fail makes a document one that is not known.
func (f *feed) fail(i int, err error) {
	f.change(i, func(d config.Document, _ int64) config.Document {
		return config.Document{Name: d.Name, Shared: d.Shared, Err: err}
	})
}

func (f *feed) change(i int, change func(config.Document, int64) config.Document) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision++
	f.documents = slices.Clone(f.documents)
	f.documents[i] = change(f.documents[i], f.revision)
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feed) Documents() []config.Document {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.documents
}

func (f *feed) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *feed) Err() error { return nil }

// collect keeps what is told.
type collect struct {
	mu     sync.Mutex
	events []config.Event
}

func (c *collect) tell(e config.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
}

// told are the events since the last time, as text.
func (c *collect) told() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, e := range c.events {
		text := strings.TrimPrefix(fmt.Sprintf("%T", e), "config.")
		switch e := e.(type) {
		case config.Applied:
			text += fmt.Sprintf(" %v %v", e.Keys, e.Documents)
		case config.RestartNeeded:
			text += fmt.Sprintf(" %v", e.Keys)
		case config.FellBack:
			text += fmt.Sprintf(" %d", len(e.Documents))
		}
		out = append(out, text)
	}
	c.events = nil
	return out
}

// central attaches a feed to a config that is bound, settles and follows it.
func central(t testing.TB, c *config.Config, f *feed, snapshot string) *collect {
	t.Helper()
	if err := c.Attach(config.Central{Feed: f, Snapshot: snapshot, Sections: []string{"limits", "clients"}}); err != nil {
		t.Fatal(err)
	}
	var events collect
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	settle, end := context.WithTimeout(ctx, time.Second)
	defer end()
	c.Settle(settle, events.tell)
	go func() {
		defer close(done)
		c.Follow(ctx, events.tell)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return &events
}

// TestFeed changes the file and both documents in turn.
func TestFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoc(t, "limits: {low: 2}\n")
		c, v := watch(t, d, "", defaultShop(), config.WithEnviron([]string{"PLINTH_LIMITS_LOW=3"}), config.WithFlags([]string{"clients.a.timeout=1s"}))
		f := newFeed("limits: {low: 4}\nother: {x: 1}\nmore.y: 2\n", "")
		events := central(t, c, f, "")
		pass(time.Millisecond)
		if got, want := events.told(), []string{"Applied [limits.low] [feed all (revision 1)]"}; !slices.Equal(got, want) {
			t.Errorf("at the start: %q, want %q", got, want)
		}
		if e := entry(t, c, "limits.low"); e.Source.String() != "feed all line 1 (revision 1)" || e.Source.Kind != config.KindFeed || e.Value != "4" {
			t.Errorf("limits.low is %+v", e)
		}
		var ignored []string
		for _, e := range c.Status().Ignored {
			ignored = append(ignored, e.Key+" "+e.Source.String()+e.Value)
		}
		if want := []string{"more.y feed all line 3 (revision 1)", "other.x feed all line 2 (revision 1)"}; !slices.Equal(ignored, want) {
			t.Errorf("ignored %q, want %q", ignored, want)
		}
		for _, step := range []struct {
			name   string
			change func()
			events []string
			err    string // "" for none
			low    int
			a      time.Duration // timeout of the client
		}{
			{"above the flags", func() { f.write(own, "clients: {a: {timeout: 2s}}\n") }, []string{"Applied [clients.a.timeout] [feed own (revision 2)]"}, "", 4, 2 * time.Second},
			{"own above shared", func() { f.write(own, "limits: {low: 5}\n") }, []string{"Applied [clients.a.timeout limits.low] [feed own (revision 3)]"}, "", 5, time.Second},
			{"a bad value", func() { f.write(own, "limits: {low: 6}\nclients: {a: {timeout: x}}\n") }, []string{"Rejected"}, `feed own line 2 (revision 4): clients.a.timeout: "x" is not a duration`, 5, time.Second},
			{"the shared one all the same", func() { f.write(all, "clients: {a: {timeout: 4s}}\n") }, []string{"Applied [clients.a.timeout] [feed all (revision 5)]"}, "feed own line 2", 5, 4 * time.Second},
			{"the file all the same", func() { d.write("tokens: {x: y}\n") }, []string{"Applied [tokens.x] [" + d.path + "]"}, "feed own line 2", 5, 4 * time.Second},
			{"well again", func() { f.write(own, "limits: {low: 7}\n") }, []string{"Applied [limits.low] [feed own (revision 6)]"}, "", 7, 4 * time.Second},
			{"a bad file", func() { d.write("limits: {low: x}\n") }, []string{"Rejected"}, "app.yaml:1", 7, 4 * time.Second},
			{"and a good document", func() { f.write(own, "limits: {low: 8}\n") }, []string{"Applied [limits.low] [feed own (revision 7)]"}, "app.yaml:1", 8, 4 * time.Second},
			{"a good file", func() { d.write("limits: {low: 1}\n") }, []string{"Applied [tokens.x] [" + d.path + "]"}, "", 8, 4 * time.Second},
			{"a cold key", func() { f.write(own, "limits: {low: 9}\naddr: :5\n") }, []string{"Rejected"}, "feed own line 2 (revision 8): addr: is read at the start only, and so cannot be set here; set it in the file", 8, 4 * time.Second},
			{"a cold key of a map", func() { f.write(own, "limits: {low: 9}\nstatic: {x: [y]}\n") }, []string{"Rejected"}, "static.x: is read at the start only", 8, 4 * time.Second},
			{"a cold key for all", func() {
				f.write(own, "limits: {low: 8}\n")
				synctest.Wait()
				f.write(all, "limits: {high: 50, low: 9}\n")
			}, []string{"Applied [] [feed own (revision 10)]", "Rejected"}, "feed all line 1 (revision 11): limits.high: is read at", 8, 4 * time.Second},
			{"an unknown key for all", func() { f.write(all, "limits: {lwo: 9}\n") }, []string{"Rejected"}, "feed all line 1 (revision 12): limits.lwo: is not a known key, did you mean limits.low?", 8, 4 * time.Second},
			{"an unknown key", func() { f.write(all, ""); f.write(own, "limits: {low: 9}\nother: 1\n") }, nil, "feed own line 2 (revision 14): other: is not a known key", 8, time.Second},
			{"a plain value for a section", func() { f.write(own, "limits: 5\n") }, []string{"Rejected"}, "limits: is a plain value, want keys below limits", 8, time.Second},
			{"empty sections", func() { f.write(own, "limits:\nclients: {}\n") }, []string{"Applied [limits.low] [feed own (revision 16)]"}, "", 3, time.Second},
			{"not valid together", func() { f.write(own, "limits: {low: 50}\n") }, []string{"Rejected"}, `"50" is above high, 10`, 3, time.Second},
			{"no YAML", func() { f.write(own, "limits: {low: 4\n") }, []string{"Rejected"}, "feed own line 1 (revision 18): not YAML", 3, time.Second},
			{"too large", func() { f.write(own, "limits: {low: 4}\n#"+strings.Repeat("x", config.MaxDocument)) }, []string{"Rejected"}, "must not exceed 262144", 3, time.Second},
			{"gone", func() { f.write(own, "") }, []string{"Applied [] [feed own (none)]"}, "", 3, time.Second},
			{"back", func() { f.write(own, "limits: {low: 4}\n") }, []string{"Applied [limits.low] [feed own (revision 21)]"}, "", 4, time.Second},
			{"lost", func() { f.fail(own, errors.New("it is lost")) }, []string{"Rejected"}, "read configuration feed own: it is lost", 4, time.Second},
			{"written again", func() { f.write(own, "limits: {low: 4} # as before\n") }, []string{"Applied [] [feed own (revision 23)]"}, "", 4, time.Second},
		} {
			step.change()
			pass(settle)
			got := events.told()
			if step.events != nil && !slices.Equal(got, step.events) {
				t.Errorf("%s: events %q, want %q", step.name, got, step.events)
			}
			err := c.Status().Err
			if (err == nil) != (step.err == "") || err != nil && !strings.Contains(err.Error(), step.err) {
				t.Errorf("%s: error %v, want %q", step.name, err, step.err)
			}
			if s := v.Get(); s.Limits.Low != step.low || s.Clients["a"].Timeout != step.a {
				t.Errorf("%s: %d and %v, want %d and %v", step.name, s.Limits.Low, s.Clients["a"].Timeout, step.low, step.a)
			}
		}
		if s := c.Status().Documents; len(s) != 2 || s[own].Name != "feed own" || s[own].Revision != 23 || s[own].Err != nil || s[all].Revision != 0 || !s[all].Shared {
			t.Errorf("documents %+v", s)
		}
	})
}

// TestFeedSections: a service's own sections follow the documents, whatever path
// they are bound at, and cold ones are told from unknown ones.
func TestFeedSections(t *testing.T) {
	c, err := config.Load()
	if err != nil {
		t.Fatal(err)
	}
	type cold struct {
		Size int `yaml:"size"`
	}
	limits, err := config.Watch(c, "mine.limits", clientOf{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Bind(c, "pool", cold{}); err != nil {
		t.Fatal(err)
	}
	f := newFeed("mine: {limits: {balancer: x}}\npool: {width: 3}\n", "mine.limits.timeout: 2s\n")
	if err := c.Attach(config.Central{Feed: f}); err != nil {
		t.Fatal(err)
	}
	c.Settle(t.Context(), nil)
	if got := limits.Get(); got.Timeout != 2*time.Second || got.Balancer != "x" || c.Status().Err != nil {
		t.Errorf("%+v, %v", got, c.Status().Err)
	}
	if got := c.Status().Ignored; len(got) != 1 || got[0].Key != "pool.width" {
		t.Errorf("ignored %+v", got)
	}
	for text, want := range map[string]string{
		"pool: {size: 3}\n": "pool.size: is read at the start only",
		"mine: 3\n":         "mine: is a plain value, want keys below mine",
	} {
		f.write(all, text)
		if _, err := c.Reload(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	f.write(all, "mine: {limits: {timeuot: 3s}}\n")
	if _, err := c.Reload(); err != nil || len(c.Status().Ignored) != 1 {
		t.Errorf("another service's key: %v, %+v", err, c.Status().Ignored)
	}
	f.write(own, "mine: {limits: {timeuot: 3s}}\n")
	if _, err := c.Reload(); err == nil || !strings.Contains(err.Error(), "did you mean mine.limits.timeout?") {
		t.Error(err)
	}
}

// TestSettleWaits: the start waits for an answer that may come, not for one that
// will not, and not longer than it is told.
func TestSettleWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			happen func(f *feed)
			took   time.Duration
			low    int
			events []string
		}{
			"never":       {func(*feed) {}, time.Second, 2, []string{"FellBack 0"}},
			"unreachable": {func(f *feed) { f.fail(all, config.ErrUnreachable); f.fail(own, config.ErrUnreachable) }, 300 * time.Millisecond, 2, []string{"FellBack 0"}},
			"an answer":   {func(f *feed) { f.write(all, ""); f.write(own, "limits: {low: 5}\n") }, 300 * time.Millisecond, 5, []string{"Applied [limits.low] [feed own (revision 4)]"}},
		} {
			d := newDoc(t, "limits: {low: 2}\n")
			c, v := watch(t, d, "", defaultShop())
			f := newFeed()
			f.fail(all, config.ErrPending)
			f.fail(own, config.ErrPending)
			if err := c.Attach(config.Central{Feed: f}); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			time.AfterFunc(300*time.Millisecond, func() { tt.happen(f) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			var events collect
			c.Settle(ctx, events.tell)
			cancel()
			if took := time.Since(began); took != tt.took || v.Get().Limits.Low != tt.low {
				t.Errorf("%s: %d after %v, want %d after %v", name, v.Get().Limits.Low, took, tt.low, tt.took)
			}
			if got := events.told(); !slices.Equal(got, tt.events) {
				t.Errorf("%s: events %q, want %q", name, got, tt.events)
			}
			if err := c.Status().Err; (err == nil) != (tt.low == 5) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestAttachErrors: a feed that cannot be used is told of at once.
func TestAttachErrors(t *testing.T) {
	c, err := config.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Attach(config.Central{Feed: &feed{}}); err == nil || !strings.Contains(err.Error(), "no documents") {
		t.Error(err)
	}
	if err := c.Attach(config.Central{Feed: newFeed()}); err != nil {
		t.Error(err)
	}
	if err := c.Attach(config.Central{Feed: newFeed()}); err == nil || !strings.Contains(err.Error(), "one already") {
		t.Error(err)
	}
}

// badDocument is a document with good values in it that is not good. It is always
// another one.
func badDocument(r *rand.Rand) string {
	good := []string{
		fmt.Sprintf("limits: {low: %d}", 2+r.IntN(8)), fmt.Sprintf("clients: {a: {timeout: %ds}}", 1+r.IntN(100)),
		fmt.Sprintf("clients: {b: {methods: {Get: {timeout: %dms}}}}", 1+r.IntN(100)), "tokens: {x: secret}",
	}
	bad := []string{
		"limits: {low: 11}", "limits: {low: x}", "limits: {low: 99999999999999999999}", "limits: {low: [1, 2]}", "limits: {low: {a: 1}}", "limits: 7", "clients: [a]",
		"clients: {a: {timeout: 1}}", "clients: {a: {timeout: -}}", "clients: {a: 5}", "addr: :7", "dsn: x", "static: {x: [y]}", "limits: {high: 40}",
		"limits: {low: 3, low: 4}", "limits.low: 3\nlimits: {low: 4}", "<<: {limits: {low: 2}}", "a: &a {b: *a}", "? [x]\n: y", "limits: {low: 2", "\tlimits: {low: 2}",
		"---\na: 1\n---\nb: 2", "unknown: 1", "limits: {lwo: 3}", "- a\n- b", "just text", "tokens: {x: {y: {z: 1}}}", "\x00\x01\xff", "%YAML 9\n---", "'", "{{{{", "a: *b",
		"clients: {a: {retry: {max_attempts: many}}}", strings.Repeat("{a: ", 60) + "1" + strings.Repeat("}", 60),
	}
	text := bad[r.IntN(len(bad))]
	first := r.IntN(2) == 0
	used, _, _ := strings.Cut(text, ":")
	for _, i := range r.Perm(len(good))[:r.IntN(3)] {
		if strings.HasPrefix(good[i], strings.SplitN(used, ".", 2)[0]) || strings.Contains(text, "limits") && i == 0 {
			continue // it would be given twice, which is bad as well, but another thing
		}
		if first {
			text = good[i] + "\n" + text
		} else {
			text += "\n" + good[i]
		}
	}
	return fmt.Sprintf("%s\n# %d\n", text, r.Int())
}

// TestRandomBadDocuments: a thousand documents that are not good change nothing, and
// each is told of.
func TestRandomBadDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		r := rand.New(rand.NewPCG(1, 2))
		d := newDoc(t, "addr: :1\n")
		c, v := watch(t, d, "", defaultShop())
		f := newFeed("limits: {low: 4}\n", "clients: {a: {timeout: 5s}}\n")
		events := central(t, c, f, "")
		before := v.Get()
		if before.Limits.Low != 4 || before.Clients["a"].Timeout != 5*time.Second {
			t.Fatalf("at the start: %+v", before)
		}
		changes := 0
		v.OnChange(func(_, _ shop) { changes++ })
		pass(time.Millisecond)
		events.told()
		for i := range n {
			text := badDocument(r)
			f.write(own, text)
			synctest.Wait()
			if got := events.told(); !slices.Equal(got, []string{"Rejected"}) {
				t.Errorf("%d: %q tells %q", i, text, got)
			}
			status := c.Status()
			if status.Err == nil || status.Documents[own].Err == nil || status.Documents[own].Revision != 2 {
				t.Errorf("%d: %q: status %+v", i, text, status)
			}
			if now := v.Get(); !reflect.DeepEqual(now, before) {
				t.Fatalf("%d: %q changed it to %+v", i, text, now)
			}
		}
		if changes != 0 {
			t.Errorf("told of %d changes", changes)
		}
		f.write(own, "limits: {low: 9}\n")
		synctest.Wait()
		if v.Get().Limits.Low != 9 || c.Status().Err != nil {
			t.Errorf("a good one after the bad ones: %+v, %v", v.Get(), c.Status().Err)
		}
	})
}
