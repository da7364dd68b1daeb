package framework_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime/trace"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

// occupy has the flight recorder of this process run outside of the bubbles of
// synctest, where it would stop their clock.
func occupy(t *testing.T) {
	t.Helper()
	recorder := trace.NewFlightRecorder(trace.FlightRecorderConfig{MaxBytes: 1 << 20})
	if err := recorder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(recorder.Stop)
}

// TestDumps: every step that is left behind leaves a dump, in which goroutines,
// jobs and steps have their names, and the steps behind it run all the same.
func TestDumps(t *testing.T) {
	occupy(t)
	dir := filepath.Join(t.TempDir(), "dumps")
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		release := make(chan struct{})
		defer close(release)
		deaf := func(context.Context) error { <-release; return nil }
		ran := false
		env := frameworktest.New(t)
		app := env.Start("echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, echo{say: func(context.Context, string) (string, error) {
				<-release // it does not look at its context
				return "", nil
			}})
			s.Go("deaf worker", deaf)
			s.Lead("deaf-job", deaf)
			s.OnStop("recorder", func(context.Context) error { ran = true; return nil })
			s.OnStop("deadlocked", deaf)
			return nil
		}, r.option(), framework.WithSetting("server.drain.timeout", "3s"), framework.WithSetting("server.drain.dump_dir", dir))
		go func() { _, _ = say(t.Context(), env.Direct(app), "x") }()
		synctest.Wait()
		err := app.Stop()
		if err == nil || !ran {
			t.Fatalf("err = %v, and the step behind the deadlocked one ran: %v", err, ran)
		}
		for _, want := range []string{"finish calls: stop gRPC: 1 calls", "goroutines that did not end within 10s: deaf worker", "hand over jobs: goroutines that did not end within 10s: job deaf-job", "on stop: deadlocked: it did not end within 10s"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not say %q:\n%v", want, err)
			}
		}
		want := map[string]string{ // what the dump of a phase names
			"finish calls":        `echo.Say`,
			"hand over jobs":      `"plinth_goroutine":"job deaf-job"`,
			"end goroutines":      `"plinth_goroutine":"deaf worker"`,
			"on stop: deadlocked": `"plinth_goroutine":"on stop: deadlocked"`,
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		kept := 0
		for _, e := range r.events {
			e, ok := e.(framework.DumpKept)
			if !ok {
				continue
			}
			kept++
			if e.Trace != "" || e.Err == nil || !strings.Contains(e.Err.Error(), "flight recorder") {
				t.Errorf("%s: trace %q, error %v; want none, and why", e.Phase, e.Trace, e.Err)
			}
			text, err := os.ReadFile(e.Goroutines)
			if err != nil {
				t.Error(err)
				continue
			}
			if name, ok := want[e.Phase]; !ok || !bytes.Contains(text, []byte(name)) {
				t.Errorf("the dump of %s does not name %q", e.Phase, name)
			}
			if name := filepath.Base(e.Goroutines); !strings.Contains(name, app.Instance().ID) {
				t.Errorf("%s does not name the instance", name)
			}
		}
		if kept != 4 {
			t.Errorf("%d dumps, want 4", kept)
		}
	})
}

// TestDumpsAreBounded: a directory keeps ten files, and nobody else's are touched.
func TestDumpsAreBounded(t *testing.T) {
	occupy(t)
	dir := t.TempDir()
	for i, name := range []string{"note.txt", ".new-old", ".new-new"} {
		path := filepath.Join(dir, name)
		at := time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)
		if i == 2 {
			at = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // synctest's clock begins here
		}
		if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		for range 3 {
			app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
				s.RegisterService(&echoDesc, plainEcho)
				for range 5 {
					s.OnStop("deadlocked", func(context.Context) error { <-release; return nil })
				}
				return nil
			}, framework.WithSetting("server.drain.dump_dir", dir))
			if app.Stop() == nil {
				t.Error("it went well")
			}
		}
	})
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var dumps, others []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "-goroutines.txt") {
			dumps = append(dumps, e.Name())
		} else {
			others = append(others, e.Name())
		}
	}
	if len(dumps) < 8 || len(dumps) > 10 || !slices.Equal(others, []string{".new-new", "note.txt"}) {
		t.Errorf("%d dumps and %q are left; want at most 10, and what is not ours", len(dumps), others)
	}
}

// TestNoDumps: a directory that cannot be written is told of and holds up nothing;
// off means off.
func TestNoDumps(t *testing.T) {
	occupy(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for setting, want := range map[string]string{file: "set server.drain.dump_dir to a directory that can be written, or to off", "off": ""} {
		synctest.Test(t, func(t *testing.T) {
			var r recorder
			release := make(chan struct{})
			defer close(release)
			app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
				s.RegisterService(&echoDesc, plainEcho)
				s.OnStop("deadlocked", func(context.Context) error { <-release; return nil })
				return nil
			}, r.option(), framework.WithSetting("server.drain.dump_dir", setting))
			if app.Stop() == nil {
				t.Error("it went well")
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			told := ""
			for _, e := range r.events {
				if e, ok := e.(framework.DumpKept); ok {
					told = e.Err.Error()
				}
			}
			if !strings.Contains(told, want) || want == "" && told != "" {
				t.Errorf("%s: told %q, want it to say %q", setting, told, want)
			}
		})
	}
}

// TestProcessOverrun: a process whose call and step hang ends within its limits,
// names them, and leaves a dump and a trace of each.
func TestProcessOverrun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startProcess(t, "server.drain.timeout=300ms", "server.drain.delay=100ms", "server.drain.dump_dir="+dir, "service.metadata.stuck=yes")
	conn, err := grpc.NewClient(p.endpoint("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	called := make(chan error, 1)
	go func() {
		_, err := say(t.Context(), conn, "hang")
		called <- err
	}()
	p.inFlight(1)
	p.signal(syscall.SIGTERM)
	var doc framework.LifecycleDocument
	took := eventually(t, 10*time.Second, "the drain's dump is shown while it stops", func() error {
		if err := p.get("/debug/lifecycle", &doc); err != nil {
			return err
		}
		if len(doc.Dumps) == 0 {
			return errors.New("no dump")
		}
		return nil
	})
	t.Logf("the dump is there %v after SIGTERM", took)
	if d := doc.Dumps[0]; d.Phase != "finish calls" || d.Error != "" {
		t.Errorf("dump %+v", d)
	}
	if <-called == nil {
		t.Error("the call that was cut off went well")
	}
	if code := p.wait(30 * time.Second); code != 1 {
		t.Errorf("exit code %d", code)
	}
	out := p.stderr.String()
	for _, want := range []string{"1 calls were cut off", "on stop: deadlocked: it did not end within 10s"} {
		if !strings.Contains(out, want) {
			t.Errorf("standard error does not say %q", want)
		}
	}
	named := regexp.MustCompile(`"goroutines":"([^"]+)","trace":"([^"]+)"`).FindAllStringSubmatch(out, -1)
	if len(named) != 2 {
		t.Fatalf("the log names %d dumps, want 2", len(named))
	}
	for i, want := range []string{"echo.Say", `"plinth_goroutine":"on stop: deadlocked"`} {
		for j, want := range []string{want, "go 1."} {
			text, err := os.ReadFile(named[i][j+1])
			if err != nil || !bytes.Contains(text, []byte(want)) || j == 1 && !bytes.HasPrefix(text, []byte(want)) {
				t.Errorf("%s: %d bytes, error %v; want %q in it", named[i][j+1], len(text), err, want)
			}
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 4 {
		t.Errorf("%d files, %v; want 4", len(files), err)
	}
}

// TestProcessSecondSignalWhileStuck: nothing that hangs keeps a second signal from
// ending the process.
func TestProcessSecondSignalWhileStuck(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "service.metadata.stuck=yes", "server.drain.dump_dir=off")
	conn, err := grpc.NewClient(p.endpoint("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = say(t.Context(), conn, "hang") }()
	p.inFlight(1)
	p.signal(syscall.SIGTERM)
	eventually(t, 10*time.Second, "it waits for the call", func() error {
		var doc framework.LifecycleDocument
		if err := p.get("/debug/lifecycle", &doc); err != nil {
			return err
		}
		for _, phase := range doc.Phases {
			if phase.Name == "finish calls" && phase.Running {
				return nil
			}
		}
		return errors.New("not yet")
	})
	begun := time.Now()
	p.signal(syscall.SIGINT)
	code := p.wait(5 * time.Second)
	t.Logf("ended %v after the second signal", time.Since(begun))
	if code != 128+int(syscall.SIGINT) || !strings.Contains(p.stderr.String(), "second signal (interrupt): ended at once") {
		t.Errorf("exit code %d", code)
	}
}

// get reads a page of the admin listener.
func (p *process) get(path string, into any) error {
	body, err := fetchPage("http://" + p.endpoint("admin") + path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// inFlight waits until so many calls are in flight.
func (p *process) inFlight(n int) {
	p.t.Helper()
	want := []byte(`plinth_server_calls_in_flight{method="test.v1.Echo/Say",service="echo"} ` + string(rune('0'+n)))
	eventually(p.t, 5*time.Second, "calls are in flight", func() error {
		body, err := fetchPage("http://" + p.endpoint("admin") + "/metrics")
		if err == nil && !bytes.Contains(body, want) {
			err = errors.New("not yet")
		}
		return err
	})
}
