package config_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/config"
)

// follower runs Follow in a synctest bubble and keeps what it tells.
type follower struct {
	mu     sync.Mutex
	events []string
}

func follow(t *testing.T, c *config.Config) *follower {
	f := &follower{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Follow(ctx, func(e config.Event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			switch e := e.(type) {
			case config.Applied:
				f.events = append(f.events, fmt.Sprint("applied ", e.Keys))
			case config.Rejected:
				f.events = append(f.events, "rejected")
			case config.RestartNeeded:
				f.events = append(f.events, fmt.Sprint("restart ", e.Keys))
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return f
}

// told are the events since the last time.
func (f *follower) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	events := f.events
	f.events = nil
	return events
}

// pass lets virtual time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// settle is how long a change may take: two polls.
const settle = 2 * config.PollInterval

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoc(t, "limits: {low: 2}\n")
		c, v := watch(t, d, "", defaultShop())
		d.write("limits: {low: 3}\n") // between the load and the start
		f := follow(t, c)
		pass(time.Millisecond) // stay clear of the polls
		for _, step := range []struct {
			name   string
			change func()
			events []string
			low    int
		}{
			{"before the start", func() {}, []string{"applied [limits.low]"}, 3},
			{"nothing", func() {}, nil, 3},
			{"another value", func() { d.write("limits: {low: 4}\n") }, []string{"applied [limits.low]"}, 4},
			{"a comment", func() { d.write("limits: {low: 4} # four\n") }, []string{"applied []"}, 4},
			{"a bad value", func() { d.write("limits: {low: x}\n") }, []string{"rejected"}, 4},
			{"the same bad value", func() {}, nil, 4},
			{"another bad value", func() { d.write("limits: {low: y}\n") }, []string{"rejected"}, 4},
			{"what was good last", func() { d.write("limits: {low: 4} # four\n") }, []string{"applied []"}, 4},
			{"a cold value", func() { d.write("limits: {low: 5}\naddr: x\n") }, []string{"applied [limits.low]", "restart [addr]"}, 5},
			{"the same cold value", func() { d.write("limits: {low: 6}\naddr: x\n") }, []string{"applied [limits.low]"}, 6},
			{"two cold values", func() { d.write("limits: {low: 6}\naddr: y\ndsn: z\n") }, []string{"applied []", "restart [addr dsn]"}, 6},
			{"cold as at the start", func() { d.write("limits: {low: 6}\n") }, []string{"applied []"}, 6},
			{"gone", func() { os.Remove(d.path) }, []string{"rejected"}, 6},
			{"still gone", func() {}, nil, 6},
			{"back", func() { d.write("limits: {low: 6}\n") }, []string{"applied []"}, 6},
			{"a directory", func() { os.Remove(d.path); os.Mkdir(d.path, 0o700) }, []string{"rejected"}, 6},
			{"a file in its place", func() {
				os.Remove(d.path)
				os.WriteFile(d.path+"~", []byte("limits: {low: 7}\n"), 0o600)
				os.Rename(d.path+"~", d.path)
			}, []string{"applied [limits.low]"}, 7},
		} {
			step.change()
			pass(settle)
			if got := f.told(); !slices.Equal(got, step.events) {
				t.Errorf("%s: events %q, want %q", step.name, got, step.events)
			}
			if got := v.Get().Limits.Low; got != step.low {
				t.Errorf("%s: %d, want %d", step.name, got, step.low)
			}
		}
	})
}

// TestFollowWaitsForTheWhole: a file that is being written is left alone, also
// where what is there so far could be used.
func TestFollowWaitsForTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoc(t, "limits: {low: 2}\nclients: {a: {timeout: 1s}}\n")
		c, v := watch(t, d, "", defaultShop())
		f := follow(t, c)
		v.OnChange(func(_, current shop) {
			if current.Clients["a"].Timeout != 2*time.Second {
				t.Errorf("half a file was applied: %+v", current)
			}
		})
		pass(time.Millisecond)
		for _, part := range []string{"", "limits", "limits: {low: 3}\n", "limits: {low: 3}\nclients:\n", "limits: {low: 3}\nclients: {a: {timeout: 2s}}\n"} {
			d.write(part)
			pass(config.PollInterval)
		}
		pass(config.PollInterval)
		if got := f.told(); !slices.Equal(got, []string{"applied [clients.a.timeout limits.low]"}) {
			t.Errorf("events %q", got)
		}
	})
}

// TestFollowLinks turns a link to another directory, as Kubernetes does with
// the files of a ConfigMap.
func TestFollowLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		put := func(version, content string) {
			os.Mkdir(filepath.Join(dir, version), 0o700)
			os.WriteFile(filepath.Join(dir, version, "app.yaml"), []byte(content), 0o600)
			os.Symlink(version, filepath.Join(dir, "..data_tmp"))
			os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
		}
		put("..1", "timeout: 1s\n")
		path := filepath.Join(dir, "app.yaml")
		if err := os.Symlink(filepath.Join("..data", "app.yaml"), path); err != nil {
			t.Fatal(err)
		}
		c, v := watch(t, &doc{t, path}, "", common{})
		f := follow(t, c)
		put("..2", "timeout: 2s\n")
		pass(settle)
		if got := f.told(); v.Get().Timeout != 2*time.Second || !slices.Equal(got, []string{"applied [timeout]"}) {
			t.Errorf("timeout %v, events %q", v.Get().Timeout, got)
		}
	})
}

// TestFollowAppears: an optional file that was not there at the start.
func TestFollowAppears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doc{t, filepath.Join(t.TempDir(), "app.yaml")}
		c, err := config.Load(config.WithFile(d.path, false))
		if err != nil {
			t.Fatal(err)
		}
		v, err := config.Watch(c, "", common{})
		if err != nil {
			t.Fatal(err)
		}
		f := follow(t, c)
		pass(10 * settle)
		if got := f.told(); got != nil {
			t.Errorf("events %q without a file", got)
		}
		d.write("timeout: 2s\n")
		pass(settle)
		if got := f.told(); v.Get().Timeout != 2*time.Second || !slices.Equal(got, []string{"applied [timeout]"}) {
			t.Errorf("timeout %v, events %q", v.Get().Timeout, got)
		}
	})
}

// TestFollowNothing: without a file there is nothing to follow.
func TestFollowNothing(t *testing.T) {
	c, err := config.Load()
	if err != nil {
		t.Fatal(err)
	}
	c.Follow(t.Context(), nil) // returns
	if change, err := c.Reload(); err != nil || change.Applied != nil {
		t.Error(change, err)
	}
}

// naming names a file that must be there, as certificates must.
type naming struct {
	Limits struct {
		Name string `yaml:"name"`
	} `yaml:"limits"`
}

func (f *naming) Validate() error {
	if _, err := os.Stat(f.Limits.Name); f.Limits.Name != "" && err != nil {
		return config.InvalidNow("limits.name", "cannot be read")
	}
	return nil
}

// TestFollowTriesAgain: what was rejected for a file that it names is taken once
// the file is there, without another word until then, be it of the file or of the
// feed.
func TestFollowTriesAgain(t *testing.T) {
	for name, fed := range map[string]bool{"file": false, "feed": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDoc(t, "")
				named := filepath.Join(t.TempDir(), "named")
				opt := config.WithFile(d.path, true)
				if fed {
					opt = config.WithFile("", false)
				}
				c, err := config.Load(opt)
				if err != nil {
					t.Fatal(err)
				}
				v, err := config.Watch(c, "", naming{})
				if err != nil {
					t.Fatal(err)
				}
				var told func() []string
				document, taken := "limits: {name: "+named+"}\n", "applied [limits.name]"
				if fed {
					f := newFeed("", "")
					events := central(t, c, f, "")
					f.write(1, document)
					told, taken = events.told, "Applied [limits.name] [feed own (revision 1)]"
				} else {
					told = follow(t, c).told
					d.write(document)
				}
				pass(10 * settle)
				if got := told(); len(got) == 0 || !strings.EqualFold(got[len(got)-1], "rejected") || v.Get().Limits.Name != "" || c.Status().Err == nil {
					t.Errorf("while the file is missing: told %q, in use %q, err %v", got, v.Get().Limits.Name, c.Status().Err)
				}
				pass(10 * settle)
				if got := told(); len(got) != 0 {
					t.Errorf("while nothing changes: told %q", got)
				}
				if err := os.WriteFile(named, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				pass(settle)
				if got := told(); !slices.Equal(got, []string{taken}) || v.Get().Limits.Name != named || c.Status().Err != nil {
					t.Errorf("with the file: told %q, in use %q, err %v", got, v.Get().Limits.Name, c.Status().Err)
				}
			})
		})
	}
}
