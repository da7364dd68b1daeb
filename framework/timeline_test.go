package framework_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

// lifecycle is what /debug/lifecycle answers to a program.
func lifecycle(t *testing.T, app *frameworktest.App) framework.LifecycleDocument {
	t.Helper()
	code, body := ask(t, app, http.MethodGet, "/debug/lifecycle", "")
	var doc framework.LifecycleDocument
	if err := json.Unmarshal([]byte(body), &doc); code != http.StatusOK || err != nil {
		t.Fatalf("GET /debug/lifecycle = %d, %v", code, err)
	}
	return doc
}

// phaseNames are the names of the phases of one stage.
func phaseNames(doc framework.LifecycleDocument, stage string) (names []string) {
	for _, p := range doc.Phases {
		if p.Stage == stage {
			names = append(names, p.Name)
		}
	}
	return names
}

func phaseOf(t *testing.T, doc framework.LifecycleDocument, name string) framework.LifecyclePhase {
	t.Helper()
	at := slices.IndexFunc(doc.Phases, func(p framework.LifecyclePhase) bool { return p.Name == name })
	if at < 0 {
		t.Fatalf("no phase %q in %+v", name, doc.Phases)
	}
	return doc.Phases[at]
}

func TestTimelineOfTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		up := time.Now().Add(3 * time.Second)
		app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Check("db", func(context.Context) error {
				if time.Now().Before(up) {
					return errors.New("connection refused")
				}
				return nil
			})
			<-time.After(2 * time.Second) // setup takes its time
			return nil
		}, r.option(), framework.WithSetting("registry.required", "false"))
		synctest.Wait()
		want := []string{
			"read configuration", "start telemetry", "build parts", "set up", "bind listeners", "start background",
			"await checks", "serve", "announce",
		}
		doc := lifecycle(t, app)
		if got := phaseNames(doc, framework.StageStart); !slices.Equal(got, want) {
			t.Errorf("phases %q, want %q", got, want)
		}
		if doc.State != "serving" || doc.Drain != nil || doc.Instance != app.Instance().ID {
			t.Errorf("document %+v", doc)
		}
		for name, took := range map[string]float64{"set up": 2000, "await checks": 1000} {
			if p := phaseOf(t, doc, name); p.TookMS != took || p.Running || p.Error != "" {
				t.Errorf("%+v, want %v ms", p, took)
			}
		}
		// The log has them, too, before it says ready.
		r.mu.Lock()
		defer r.mu.Unlock()
		var told []string
		for _, e := range r.events {
			switch e := e.(type) {
			case framework.PhaseEnded:
				told = append(told, e.Phase)
			case framework.Ready:
				told = append(told, "ready")
			}
		}
		if want := append(slices.Clone(want[:8]), "ready", "announce"); !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// TestTimelineWithoutRegistry: the phase shows why it is not over.
func TestTimelineWithoutRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := frameworktest.New(t)
		env.Registry().SetDown(errors.New("no quorum"))
		app := env.Start("echo", setupEcho(plainEcho), framework.WithSetting("registry.required", "false"))
		advance(10 * time.Second)
		if p := phaseOf(t, lifecycle(t, app), "announce"); !p.Running || p.TookMS < 9000 || !strings.Contains(p.Error, "no quorum") {
			t.Errorf("%+v, want it to run, and why", p)
		}
		env.Registry().SetDown(nil)
		advance(10 * time.Second)
		if p := phaseOf(t, lifecycle(t, app), "announce"); p.Running || p.Error != "" {
			t.Errorf("%+v, want it to be over", p)
		}
	})
}

// TestLateCalls: a peer that holds the address goes on calling; each call is
// answered and counted.
func TestLateCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		env := frameworktest.New(t)
		begun := make(chan struct{})
		app := env.Start("echo", setupEcho(echo{say: func(_ context.Context, in string) (string, error) {
			if in == "slow" {
				close(begun)
				<-time.After(10 * time.Second)
			}
			return in, nil
		}}), r.option(), framework.WithSetting("server.drain.delay", "4s"))
		direct := env.Direct(app)
		slow := make(chan error, 1)
		go func() {
			_, err := say(t.Context(), direct, "slow")
			slow <- err
		}()
		<-begun
		stopped := make(chan error, 1)
		go func() { stopped <- app.Stop() }()
		synctest.Wait()
		for range 3 {
			advance(500 * time.Millisecond)
			if _, err := say(t.Context(), direct, "x"); err != nil {
				t.Errorf("a call during the drain: %v", err)
			}
		}
		advance(time.Second)
		doc := lifecycle(t, app)
		if doc.State != "draining" || doc.Drain == nil || doc.Drain.AfterWithdrawal != nil {
			t.Fatalf("during the drain: %+v", doc)
		}
		if l := doc.Drain.AfterMark; l.Calls != 3 || l.ForMS != 1500 {
			t.Errorf("%+v, want 3 calls for 1500 ms", l)
		}
		_, metrics := ask(t, app, http.MethodGet, "/metrics", "")
		for _, want := range []string{`plinth_drain_late_calls{after="mark"} 3`, `plinth_drain_late_seconds{after="mark"} 1.5`} {
			if !strings.Contains(metrics, want) {
				t.Errorf("/metrics has no %s", want)
			}
		}
		advance(2 * time.Second) // it is withdrawn now, and waits for the slow call
		doc = lifecycle(t, app)
		if p := phaseOf(t, doc, "finish calls"); !p.Running || doc.Drain.AfterWithdrawal == nil || doc.Drain.AfterWithdrawal.Calls != 0 {
			t.Errorf("after the withdrawal: %+v, %+v", p, doc.Drain)
		}
		if err := errors.Join(<-slow, <-stopped); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		late := map[string]framework.LateCalls{}
		for _, e := range r.events {
			if p, ok := e.(framework.PhaseEnded); ok && p.Late != nil {
				late[p.Phase] = *p.Late
			}
		}
		if len(late) != 2 || late["accept until quiet"] != (framework.LateCalls{Calls: 3, For: 1500 * time.Millisecond}) || late["finish calls"].Calls != 0 {
			t.Errorf("told %+v", late)
		}
	})
}

// TestCallAfterWithdrawal: whoever calls an instance that is no longer in the
// registry is answered for as long as the listener is open, and counted.
func TestCallAfterWithdrawal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := frameworktest.New(t)
		withdrawn, called := make(chan struct{}), make(chan struct{})
		var late []framework.LateCalls
		app := env.Start("echo", setupEcho(plainEcho), framework.WithEvents(func(e framework.Event) {
			p, ok := e.(framework.PhaseEnded)
			switch {
			case ok && p.Phase == "withdraw": // it waits for us
				close(withdrawn)
				<-called
			case ok && p.Phase == "finish calls":
				late = append(late, *p.Late)
			}
		}))
		direct := env.Direct(app)
		stopped := make(chan error, 1)
		go func() { stopped <- app.Stop() }()
		<-withdrawn
		if list := env.Registry().Instances("echo"); len(list) != 0 {
			t.Errorf("the registry has %v", list)
		}
		advance(40 * time.Millisecond)
		if got, err := say(t.Context(), direct, "x"); err != nil || got != "x" {
			t.Errorf("after the withdrawal: %q, %v", got, err)
		}
		if d := lifecycle(t, app).Drain; d.AfterWithdrawal == nil || d.AfterWithdrawal.Calls != 1 || d.AfterWithdrawal.ForMS != 40 {
			t.Errorf("shown as %+v", d.AfterWithdrawal)
		}
		close(called)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if want := (framework.LateCalls{Calls: 1, For: 40 * time.Millisecond}); !slices.Equal(late, []framework.LateCalls{want}) {
			t.Errorf("told %+v, want %+v", late, want)
		}
	})
}

// TestLifecyclePage: a person gets tables, and what is in them cannot be markup.
func TestLifecyclePage(t *testing.T) {
	app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
		s.RegisterService(&echoDesc, plainEcho)
		s.Go("<b>worker</b>", func(context.Context) error { return errors.New("<i>oops</i>") }, framework.Restart(framework.RestartNever))
		s.Lead("reports", func(ctx context.Context) error { <-ctx.Done(); return nil })
		return nil
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://admin/debug/lifecycle", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	var body string
	eventually(t, 5*time.Second, "the page shows all", func() error {
		resp, err := app.Admin().Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var b strings.Builder
		if err := resp.Write(&b); err != nil {
			return err
		}
		body = b.String()
		for _, want := range []string{"Content-Type: text/html", "bind listeners", "&lt;b&gt;worker&lt;/b&gt;", "&lt;i&gt;oops", "reports", "yes, fence 1"} {
			if !strings.Contains(body, want) {
				return errors.New("no " + want)
			}
		}
		return nil
	})
	if strings.Contains(body, "<b>worker") {
		t.Error("a name is markup")
	}
}
