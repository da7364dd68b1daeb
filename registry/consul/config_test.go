package consul

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"plinth.internal/config"
)

// openConfig follows the documents of orders until the end of the test.
func (a *agent) openConfig(t *testing.T) *ConfigFeed {
	t.Helper()
	f := OpenConfig(a.client(t), "orders", "")
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// texts are the documents' texts, with "!" for one that is not known.
func texts(f *ConfigFeed) string {
	var out []string
	for _, d := range f.Documents() {
		text := string(d.Data)
		if d.Err != nil {
			text = "!"
		}
		out = append(out, text)
	}
	return strings.Join(out, "|")
}

// down reports that both documents cannot be followed.
func down(f *ConfigFeed) bool {
	err := f.Err()
	return err != nil && strings.Contains(err.Error(), "config/default") && strings.Contains(err.Error(), "config/orders")
}

func TestConfigFeed(t *testing.T) {
	a := newAgent(t)
	a.putKey("plinth/config/orders", "b: 1")
	a.putKey("plinth/config/orders-archive", "c: 1")
	f := a.openConfig(t)
	eventually(t, "the start", func() bool { return texts(f) == "|b: 1" })
	if d := f.Documents(); d[0].Name != "consul plinth/config/default" || !d[0].Shared || d[1].Shared || d[1].Revision == 0 || f.Err() != nil {
		t.Errorf("documents %+v, %v", d, f.Err())
	}
	for _, step := range []struct{ key, value, want string }{
		{"default", "a: 1", "a: 1|b: 1"}, {"orders", "b: 2", "a: 1|b: 2"}, {"default", "", "|b: 2"}, {"default", "a: 2", "a: 2|b: 2"},
	} {
		changed, began := f.Changed(), time.Now()
		a.putKey("plinth/config/"+step.key, step.value)
		<-changed
		eventually(t, step.want, func() bool { return texts(f) == step.want })
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s took %v", step.want, took)
		}
	}

	// What was read stays while nobody answers.
	a.setDown(true)
	eventually(t, "that it is down", func() bool { return down(f) })
	if texts(f) != "a: 2|b: 2" {
		t.Errorf("the documents are %s", texts(f))
	}
	a.putKey("plinth/config/orders", "b: 3")
	a.setDown(false)
	eventually(t, "what happened meanwhile", func() bool { return texts(f) == "a: 2|b: 3" && f.Err() == nil })

	// A wipe is not an operator who changed his mind.
	for range 20 {
		a.putKey("plinth/config/orders", "b: 4")
	}
	eventually(t, "the last change", func() bool { return texts(f) == "a: 2|b: 4" })
	a.setDown(true)
	eventually(t, "that it is down", func() bool { return down(f) })
	a.wipe()
	a.setDown(false)
	eventually(t, "that the data is lost", func() bool { return texts(f) == "!|!" })
	if err := f.Documents()[1].Err; !strings.Contains(err.Error(), "consul has lost its data") {
		t.Error(err)
	}
	a.putKey("plinth/config/orders", "b: 5")
	eventually(t, "the document written again", func() bool { return texts(f) == "!|b: 5" })
}

// TestConfigFeedUnreachable: an agent that is not there does not hold up a start.
func TestConfigFeedUnreachable(t *testing.T) {
	a := newAgent(t)
	a.setDown(true)
	f := a.openConfig(t)
	eventually(t, "that nobody answers", func() bool {
		for _, d := range f.Documents() {
			if !errors.Is(d.Err, config.ErrUnreachable) {
				return false
			}
		}
		return true
	})
	type limits struct {
		PerUser int `yaml:"per_user"`
	}
	c, err := config.Load()
	if err != nil {
		t.Fatal(err)
	}
	v, err := config.Watch(c, "limits", limits{PerUser: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Attach(config.Central{Feed: f}); err != nil {
		t.Fatal(err)
	}
	c.Settle(t.Context(), nil)
	if err := c.Status().Err; err == nil || v.Get().PerUser != 1 {
		t.Errorf("%+v, %v", v.Get(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Follow(ctx, nil)
	}()
	defer func() { cancel(); <-done }()
	a.putKey("plinth/config/orders", "limits: {per_user: 5}\n")
	a.setDown(false)
	eventually(t, "the document", func() bool { return v.Get().PerUser == 5 && c.Status().Err == nil })
}
