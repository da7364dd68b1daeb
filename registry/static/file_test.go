package static_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/registry"
	"plinth.internal/registry/registrytest"
	"plinth.internal/registry/static"
)

const document = `# who runs where
billing:
  - grpc=10.0.0.2:9000, http=10.0.0.2:8080
  - 10.0.0.1:9000
  - id: b-3
    service: billing
    version: 1.2.3
    zone: b
    weight: 50
    endpoints: {http: "10.0.0.3:8080", grpc: "10.0.0.3:9000"}
    metadata: {team: blue}
    started: 2026-05-04T03:02:01Z
    state: draining
search:
  - {endpoints: {http: "h:80", admin: "h:81"}}
nothing: []
null-list:
`

func TestFileConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		path := write(t, filepath.Join(t.TempDir(), "instances.yaml"), document)
		return registrytest.Harness{
			Open: func(t *testing.T, opts ...registry.Option) *registry.Registry {
				reg, err := static.OpenFile(path, opts...)
				if err != nil {
					t.Fatal(err)
				}
				return reg
			},
			Fixed: map[string][]registry.Instance{
				"billing": {
					{ID: "10.0.0.1:9000", Service: "billing", Endpoints: map[string]string{"grpc": "10.0.0.1:9000"}, Weight: 100, State: registry.Up},
					{ID: "10.0.0.2:9000", Service: "billing", Endpoints: map[string]string{"grpc": "10.0.0.2:9000", "http": "10.0.0.2:8080"}, Weight: 100, State: registry.Up},
					{
						ID: "b-3", Service: "billing", Version: "1.2.3", Zone: "b", Weight: 50, State: registry.Draining,
						Endpoints: map[string]string{"grpc": "10.0.0.3:9000", "http": "10.0.0.3:8080"},
						Metadata:  map[string]string{"team": "blue"},
						Started:   time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
					},
				},
				"search":    {{ID: "h:81", Service: "search", Endpoints: map[string]string{"http": "h:80", "admin": "h:81"}, Weight: 100, State: registry.Up}},
				"nothing":   {},
				"null-list": {},
			},
		}
	})
}

func TestOpenFileRefuses(t *testing.T) {
	tests := []struct{ name, document, want string }{
		{"empty", "", "the file is empty: write {}"},
		{"only a comment", "# none\n", "the file is empty: write {}"},
		{"no YAML", "billing: [", "yaml: line"},
		{"a list", "- h:1", "line 1: must be service names"},
		{"two documents", "a: [h:1]\n---\nb: [h:1]\n", "must be a single document"},
		{"service twice", "billing: [h:1]\nbilling: [h:2]", `line 2: service "billing" is given twice`},
		{"no list", "billing: h:1", `line 1: service "billing": must be a list of instances`},
		{"bad service", "a/b: [h:1]", `line 1: service "a/b": address "h:1": service "a/b": must consist of`},
		{"bad address", "billing:\n  - h:1\n  - h", `line 3: service "billing": address "h": endpoint grpc "h": must be host:port`},
		{"instance twice", "billing:\n  - h:1\n  - endpoints: {grpc: 'h:1'}", `line 3: service "billing": instance "h:1" is given twice`},
		{"a list in the list", "billing: [[h:1]]", "must be an address or a mapping with endpoints"},
		{"no endpoints", "billing: [{id: b-1}]", "endpoints: must have at least one"},
		{"unknown field", "billing: [{endpoints: {grpc: 'h:1'}, wieght: 1}]", `field "wieght": must be one of id, service`},
		{"field twice", "billing: [{id: a, id: b, endpoints: {grpc: 'h:1'}}]", "already defined"},
		{"bad field", "billing: [{endpoints: {grpc: 'h:1'}, weight: heavy}]", "cannot unmarshal"},
		{"negative weight", "billing: [{endpoints: {grpc: 'h:1'}, weight: -1}]", "weight -1: must not be negative"},
		{"other service", "billing: [{service: search, endpoints: {grpc: 'h:1'}}]", `service "search": must be left out or be "billing"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "instances.yaml"), tt.document)
			refused(t, path, tt.want)
		})
	}
	t.Run("missing", func(t *testing.T) { refused(t, filepath.Join(t.TempDir(), "none.yaml"), "no such file") })
	t.Run("directory", func(t *testing.T) { refused(t, t.TempDir(), "must be a file") })
	t.Run("too large", func(t *testing.T) {
		path := write(t, filepath.Join(t.TempDir(), "instances.yaml"), strings.Repeat("#", static.MaxFileSize+1))
		refused(t, path, "must not exceed 4194304 bytes")
	})
}

func refused(t *testing.T, path, want string) {
	t.Helper()
	reg, err := static.OpenFile(path)
	if err == nil {
		reg.Close()
		t.Fatal("OpenFile returned no error")
	}
	if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %q, want it to name %s and contain %q", err, path, want)
	}
}

func TestFileIsFollowed(t *testing.T) {
	// replace puts a new version in the place of the file.
	replace := map[string]func(t *testing.T, path, document string){
		"written in place": func(t *testing.T, path, document string) { write(t, path, document) },
		"renamed": func(t *testing.T, path, document string) {
			rename(t, write(t, path+".new", document), path)
		},
		"same size": func(t *testing.T, path, document string) {
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, document)
			// As a copy that preserves times would do it.
			if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, replace := range replace {
		t.Run(name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "instances.yaml"), "billing: [h:1, h:2]\nsearch: [s:1]\n")
			synctest.Test(t, func(t *testing.T) {
				f := follow(t, open(t, path, new([]string)), "billing")
				f.want(t, "h:1 h:2")
				replace(t, path, "billing: [h:1, h:3]\nsearch: [s:1]\n")
				f.want(t, "h:1 h:3") // h:2 is gone, not in quarantine
				replace(t, path, "search: [s:1]\n")
				f.want(t, "")
			})
		})
	}
}

// A ConfigMap is a directory of links to ..data/<key>, where ..data is a link
// to the version's directory and is replaced by renaming.
func TestConfigMapIsFollowed(t *testing.T) {
	dir := t.TempDir()
	version := func(name, document string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "instances.yaml"), document)
		link := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
		rename(t, link, filepath.Join(dir, "..data"))
	}
	version("..1", "billing: [h:1]")
	path := filepath.Join(dir, "instances.yaml")
	if err := os.Symlink(filepath.Join("..data", "instances.yaml"), path); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, open(t, path, new([]string)), "billing")
		f.want(t, "h:1")
		version("..2", "billing: [h:2]")
		f.want(t, "h:2")
	})
}

func TestBadFileChangesNothing(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "instances.yaml"), "billing: [h:1, h:2]\nsearch: [s:1]")
	synctest.Test(t, func(t *testing.T) {
		var told []string
		reg := open(t, path, &told)
		f := follow(t, reg, "billing")
		f.want(t, "h:1 h:2")

		write(t, path, "billing: [h:1, h]")
		f.wantSkipped(t, "line 1")
		f.want(t, "h:1 h:2")
		// A service that is asked for only now has the last good list as well.
		late := follow(t, reg, "search")
		late.want(t, "s:1")

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		f.wantSkipped(t, "no such file")
		f.want(t, "h:1 h:2")

		write(t, path, "billing: [h:3]")
		f.want(t, "h:3")
		if len(f.last.Skipped) > 0 {
			t.Errorf("Skipped = %v of a good file, want none", f.last.Skipped)
		}
		for i, want := range []string{"billing: line 1", "search: line 1", "no such file", "no such file"} {
			if i >= len(told) || !strings.Contains(told[i], want) {
				t.Fatalf("told %q, want event %d to be %q", told, i, want)
			}
		}
		if len(told) != 4 {
			t.Errorf("told %q, want each fault once for each service", told)
		}
	})
}

// A writer that is caught half way has written what looks like a good list.
func TestHalfAFileIsNotBelieved(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "instances.yaml"), "billing:\n- h:1\n- h:2\n")
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, open(t, path, new([]string)), "billing")
		f.want(t, "h:1 h:2")
		// The file is written line by line, each at another time of the poll.
		for _, document := range []string{"", "billing:\n", "billing:\n- h:1\n", "billing:\n- h:1\n- h:2\n- h:3\n"} {
			write(t, path, document)
			wait(t, 130*time.Millisecond)
		}
		f.want(t, "h:1 h:2 h:3")
		if got := f.history(); got != "h:1 h:2|h:1 h:2 h:3" {
			t.Errorf("lists %s, want only the first and the last", got)
		}
	})
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{document, "{}", "a: &x [h:1]\nb: *x", "a: [*x]", "? [a]\n: [h:1]", "<<: {a: [h:1]}", `{"a":[{"endpoints":{"grpc":"h:1"}}]}`} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, document string) {
		path := write(t, filepath.Join(dir, "instances.yaml"), document)
		reg, err := static.OpenFile(path)
		if err != nil {
			return
		}
		defer reg.Close()
		for snapshot := range reg.Watch(t.Context(), "billing") {
			for _, inst := range snapshot.Instances {
				if err := inst.Validate(); err != nil {
					t.Errorf("OpenFile accepted %q: %v", document, err)
				}
			}
			return
		}
	})
}

// follower collects what a watch yields, in a bubble.
type follower struct {
	last registry.Snapshot // as of the latest want

	mu    sync.Mutex
	lists []registry.Snapshot
}

// open returns a registry that tells what it skips to told.
func open(t *testing.T, path string, told *[]string) *registry.Registry {
	t.Helper()
	var mu sync.Mutex
	reg, err := static.OpenFile(path, registry.WithEvents(func(e registry.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e, ok := e.(registry.EntrySkipped); ok && e.Key == path {
			*told = append(*told, e.Service+": "+e.Err.Error())
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func follow(t *testing.T, reg *registry.Registry, service string) *follower {
	t.Helper()
	f := &follower{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for snapshot, err := range reg.Watch(context.WithoutCancel(t.Context()), service) {
			if err != nil {
				t.Errorf("watch: %v", err)
			}
			f.mu.Lock()
			f.lists = append(f.lists, snapshot)
			f.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		reg.Close()
		<-done
	})
	return f
}

// wait lets the bubble's time pass.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
	synctest.Wait()
}

// want checks the list as it is after the time that a change may take.
func (f *follower) want(t *testing.T, ids string) {
	t.Helper()
	wait(t, time.Second)
	f.mu.Lock()
	f.last = f.lists[len(f.lists)-1]
	f.mu.Unlock()
	if got := idsOf(f.last); got != ids {
		t.Errorf("list after a second: %s, want %s", got, ids)
	}
}

func (f *follower) wantSkipped(t *testing.T, problem string) {
	t.Helper()
	wait(t, time.Second)
	f.mu.Lock()
	defer f.mu.Unlock()
	skipped := f.lists[len(f.lists)-1].Skipped
	if len(skipped) != 1 || !strings.Contains(skipped[0].Err.Error(), problem) {
		t.Errorf("skipped after a second: %v, want %q", skipped, problem)
	}
}

func (f *follower) history() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lists []string
	for _, s := range f.lists {
		lists = append(lists, idsOf(s))
	}
	return strings.Join(lists, "|")
}

func idsOf(s registry.Snapshot) string {
	var ids []string
	for _, inst := range s.Instances {
		ids = append(ids, inst.ID)
	}
	return strings.Join(ids, " ")
}

func write(t testing.TB, path, document string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
