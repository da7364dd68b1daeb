package registry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// scoped is a driver that uses a part of its backend.
type scoped struct {
	Driver

	scope string
}

func (s scoped) Scope() string { return s.scope }

func TestDiskKeepsPartsApart(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	seen := map[string]bool{}
	for _, scope := range []string{"", "/plinth", "/plinth/a", "plinth", "..", "/../.."} {
		d := newDisk(dir, scoped{newFake(), scope})
		path := d.path("orders")
		if up, err := filepath.Rel(dir, path); err != nil || strings.HasPrefix(up, "..") || strings.Count(up, "/") != 1 || seen[path] {
			t.Errorf("path of scope %q: %s, want one of its own below %s", scope, path, dir)
		}
		seen[path] = true
		if err := d.save(Snapshot{Service: "orders", At: now, Instances: apart("a").Instances}); err != nil {
			t.Fatal(err)
		}
		if got, err := d.load("orders", now); err != nil || len(got.Instances) != 1 {
			t.Errorf("load of scope %q: %+v, %v", scope, got, err)
		}
		if got, err := d.load("billing", now); err != nil || got.Instances != nil {
			t.Errorf("load of what is not there: %+v, %v; want nothing", got, err)
		}
	}
	if got, err := (*disk)(nil).load("orders", now); err != nil || got.Instances != nil {
		t.Errorf("load without a directory: %+v, %v; want nothing", got, err)
	}
}

func TestDiskKeepsEverything(t *testing.T) {
	d := newDisk(t.TempDir(), newFake())
	inst := valid().withDefaults()
	inst.extra = map[string]json.RawMessage{"shard": json.RawMessage(`{"n":[1,2]}`)}
	now := time.Now()
	since := now.Add(-time.Minute)
	want := Snapshot{Service: "orders", Revision: 7, At: now, Instances: []Instance{inst}, Quarantined: map[string]time.Time{inst.ID: since}}
	if err := d.save(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.load("orders", now)
	if err != nil || !got.At.Equal(now) || got.Revision != 7 || len(got.Instances) != 1 || !got.Instances[0].Equal(inst) {
		t.Errorf("load = %+v, %v; want what was saved", got, err)
	}
	if len(got.listed()) != 0 || len(got.absent()) != 1 || !got.absent()[0].since.Equal(since) {
		t.Errorf("listed %v, absent %v; want one that is absent", got.listed(), got.absent())
	}
}

func TestDiskRefuses(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	good := func(change func(*stored)) string {
		s := stored{Kind: "fake", Service: "orders", At: now, Instances: apart("a", "b").Instances}
		change(&s)
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	tests := []struct {
		name string
		text string
		want string // "" for accepted
	}{
		{"as it is", good(func(*stored) {}), ""},
		{"just young enough", good(func(s *stored) { s.At = now.Add(-MaxSnapshotAge) }), ""},
		{"clock set back", good(func(s *stored) { s.At = now.Add(clockSkew) }), ""},
		{"fields of a later version", strings.Replace(good(func(*stored) {}), "{", `{"format":2,`, 1), ""},
		{"empty file", "", "decode list"},
		{"cut off", good(func(*stored) {})[:100], "decode list"},
		{"null", "null", "older than 24h"},
		{"no time", good(func(s *stored) { s.At = time.Time{} }), "older than 24h"},
		{"too old", good(func(s *stored) { s.At = now.Add(-MaxSnapshotAge - 1) }), "older than 24h"},
		{"from the future", good(func(s *stored) { s.At = now.Add(clockSkew + 1) }), "in the future"},
		{"another service", good(func(s *stored) {
			s.Service = "billing"
			s.Instances[0].Service, s.Instances[1].Service = "billing", "billing"
		}), `it is the list of service "billing"`},
		{"another scope", good(func(s *stored) { s.Scope = "/x" }), `in fake "/x"`},
		{"another kind", good(func(s *stored) { s.Kind = "etcd" }), "in etcd"},
		{"instance of another service", good(func(s *stored) { s.Instances[1].Service = "billing" }), `instance b is of service "billing"`},
		{"bad instance", good(func(s *stored) { s.Instances[1].Endpoints = nil }), "instance 1: endpoints: must have at least one"},
		{"twice", good(func(s *stored) { s.Instances[1].ID = "a" }), "instance a is there twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDisk(t.TempDir(), newFake())
			if err := os.MkdirAll(filepath.Dir(d.path("orders")), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(d.path("orders"), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := d.load("orders", now)
			switch {
			case tt.want == "" && (err != nil || len(got.Instances) != 2):
				t.Errorf("load = %+v, %v; want two instances", got, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || got.Instances != nil):
				t.Errorf("load = %+v, %v; want %q", got, err, tt.want)
			}
		})
	}
	if _, err := decodeStored(make([]byte, maxSnapshotSize+1), now); err == nil {
		t.Error("a file that is too large is read")
	}
}

// Whatever is in the file, the program starts, and what it starts from can be
// announced, watched and written again.
func FuzzSnapshotFile(f *testing.F) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	seed, err := json.Marshal(stored{
		Kind: "etcd", Scope: "/plinth", Service: "orders", At: now, Revision: 7,
		Instances: apart("a", "b").Instances, Quarantined: map[string]time.Time{"b": now},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"service":"orders","at":"2026-05-04T03:02:01Z","instances":[{"id":"a","service":"orders","endpoints":{"grpc":"h:1"},"x":1}],"quarantined":{"b":null}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeStored(data, now)
		if err != nil {
			if s.Instances != nil {
				t.Fatalf("%v, with instances %+v", err, s.Instances)
			}
			return
		}
		var r roster
		r.begin(SourceSnapshot, s.listed(), s.absent())
		all, since := r.callable()
		if len(all) != len(s.Instances) {
			t.Fatalf("%d instances of %d", len(all), len(s.Instances))
		}
		for i, inst := range all {
			if _, err := Encode(inst); err != nil && len(data) < MaxValueSize {
				t.Errorf("instance that cannot be announced: %v", err)
			}
			if i > 0 && all[i-1].ID >= inst.ID {
				t.Errorf("%s after %s", inst.ID, all[i-1].ID)
			}
		}
		again, err := json.Marshal(stored{Kind: s.Kind, Scope: s.Scope, Service: s.Service, At: s.At, Revision: s.Revision, Instances: all, Quarantined: since})
		if err != nil {
			return // a time that JSON cannot hold
		}
		if back, err := decodeStored(again, now); err != nil || len(back.Instances) != len(all) || len(back.absent()) != len(s.absent()) {
			t.Errorf("written again: %v, %d instances; want %d", err, len(back.Instances), len(all))
		}
	})
}

func TestOverride(t *testing.T) {
	tests := []struct {
		text string
		want Override
		err  string
	}{
		{`{}`, Override{}, ""},
		{`{"state":"draining","weight":5,"by":"ann"}`, Override{State: Draining, Weight: 5}, ""},
		{`{"state":"up"}`, Override{State: Up}, ""},
		{``, Override{}, "decode override"},
		{`[]`, Override{}, "decode override"},
		{`{"state":"down","weight":-1}`, Override{}, `state "down": must be "up" or "draining"` + "\n" + `weight -1: must not be negative`},
		{strings.Repeat(" ", 2000), Override{}, "must not exceed 1024 bytes"},
	}
	for _, tt := range tests {
		got, err := DecodeOverride([]byte(tt.text))
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("DecodeOverride(%.30q) = %+v, %v; want %+v, %q", tt.text, got, err, tt.want, tt.err)
		}
	}
	if data, err := EncodeOverride(Override{State: Draining}); err != nil || string(data) != `{"state":"draining"}` {
		t.Errorf("EncodeOverride = %s, %v", data, err)
	}
	if _, err := EncodeOverride(Override{Weight: -1}); err == nil {
		t.Error("EncodeOverride of a bad one returned no error")
	}
	drained := valid()
	drained.State, drained.Weight = Draining, 9
	if got := (Override{State: Up}).Apply(drained); !got.Equal(drained) {
		t.Errorf("up and no weight change an instance to %+v", got)
	}
	if got := (Override{State: Draining, Weight: 9}).Apply(valid()); !got.Equal(drained) {
		t.Errorf("draining and weight 9 make %+v", got)
	}
}

func FuzzOverride(f *testing.F) {
	f.Add([]byte(`{"state":"draining","weight":5}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := DecodeOverride(data)
		if err != nil {
			return
		}
		again, err := EncodeOverride(o)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := DecodeOverride(again); err != nil || back != o {
			t.Errorf("%+v became %+v, %v", o, back, err)
		}
		if inst := o.Apply(valid()); inst.Validate() != nil {
			t.Errorf("%+v makes an instance invalid: %v", o, inst.Validate())
		}
	})
}
