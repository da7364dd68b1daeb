package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// names describes who may be called: those in quarantine have a question mark,
// those that are draining a minus.
func names(r *roster) string {
	all, since := r.callable()
	var out []string
	for _, inst := range all {
		name := inst.ID
		if inst.State == Draining {
			name += "-"
		}
		if _, ok := since[inst.ID]; ok {
			name += "?"
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

// parseList reads what names writes, without quarantine; a name may say at what
// address it is, as in a@h.
func parseList(text string) List {
	var list List
	for name := range strings.FieldsSeq(text) {
		name, address, ok := strings.Cut(name, "@")
		id := strings.TrimSuffix(name, "-")
		if !ok {
			address = id
		}
		inst := Instance{ID: id, Service: "orders", Endpoints: map[string]string{"grpc": address + ":1"}, State: Up}
		if id != name {
			inst.State = Draining
		}
		list.Instances = append(list.Instances, inst)
	}
	return list
}

func TestRoster(t *testing.T) {
	type step struct {
		list      string
		withdrawn string
		explicit  bool
		drop      string // instead of a list
		want      string
		lapsed    string
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"lapse and return", []step{
			{list: "a b c", want: "a b c"},
			{list: "a c", want: "a b? c", lapsed: "b"},
			{list: "a", want: "a b? c?", lapsed: "c"},
			{list: "a b", want: "a b c?"},
			{list: "a b c d", want: "a b c d"},
		}},
		{"empty", []step{
			{list: "a b", want: "a b"},
			{list: "", want: "a? b?", lapsed: "a b"},
			{list: "", want: "a? b?"},
			{list: "a", want: "a b?"},
		}},
		{"marked before", []step{
			{list: "a b", want: "a b"},
			{list: "a b-", want: "a b-"},
			{list: "a", want: "a"},
		}},
		{"mark not seen here", []step{
			{list: "a b", want: "a b"},
			{list: "a", withdrawn: "b", want: "a"},
		}},
		{"withdrawn later", []step{
			{list: "a b", want: "a b"},
			{list: "a", want: "a b?", lapsed: "b"},
			{list: "a", withdrawn: "b x a", want: "a"},
		}},
		{"explicit", []step{
			{list: "a b", want: "a b"},
			{list: "", explicit: true, want: ""},
		}},
		{"dropped", []step{
			{list: "a b c", want: "a b c"},
			{list: "", want: "a? b? c?", lapsed: "a b c"},
			{drop: "b", want: "a? c?"},
			{drop: "b", want: "a? c?"},
			{list: "", want: "a? c?"},
			{list: "b", want: "a? b c?"},
			{drop: "b", want: "a? b c?"},
		}},
		{"restarted in the same place", []step{
			{list: "a@h b", want: "a b"},
			{list: "b", want: "a? b", lapsed: "a"},
			{list: "b c@h", want: "b c"},
			{list: "c@h d@b", want: "c d"},
		}},
		{"the draining one comes back", []step{
			{list: "a-", want: "a-"},
			{list: "a", want: "a"},
			{list: "", want: "a?", lapsed: "a"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r roster
			for i, s := range tt.steps {
				if s.drop != "" {
					r.drop(s.drop)
				} else {
					list := parseList(s.list)
					list.Withdrawn, list.Explicit = strings.Fields(s.withdrawn), s.explicit
					if out := r.update(list, time.Unix(int64(i), 0)); strings.Join(out.lapsed, " ") != s.lapsed {
						t.Errorf("step %d: lapsed %v, want %q", i, out.lapsed, s.lapsed)
					}
				}
				if got := names(&r); got != s.want {
					t.Fatalf("step %d: %q, want %q", i, got, s.want)
				}
			}
		})
	}
}

// Snapshots that were given out are not touched by what happens later.
func TestRosterGivesOutCopies(t *testing.T) {
	var r roster
	r.update(parseList("a b c d"), time.Unix(1, 0))
	r.update(parseList("d"), time.Unix(2, 0))
	all, since := r.callable()
	before := fmt.Sprint(all, since)
	r.drop("a")
	r.update(parseList("b d"), time.Unix(3, 0))
	if now := fmt.Sprint(all, since); now != before {
		t.Errorf("what was given out changed from %s to %s", before, now)
	}
}

func TestMassLapse(t *testing.T) {
	many := func(n int) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("i%02d", i))
		}
		return strings.Join(out, " ")
	}
	type step struct {
		at   int // seconds
		list string
		want string // "gone of"
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"a third at once", []step{{0, many(10), ""}, {1, many(6), "4 10"}, {2, many(5), ""}}},
		{"not quite", []step{{0, many(10), ""}, {1, many(7), ""}}},
		{"one by one", []step{{0, many(10), ""}, {1, many(9), ""}, {2, many(8), ""}, {3, many(7), ""}, {4, many(6), "4 10"}}},
		{"slowly", []step{{0, many(10), ""}, {10, many(8), ""}, {20, many(6), ""}, {30, many(5), ""}}},
		{"one of three is a crash", []step{{0, many(3), ""}, {1, many(2), ""}}},
		{"one of one is the end", []step{{0, many(1), ""}, {1, "", "1 1"}}},
		{"again later", []step{{0, many(2), ""}, {1, "", "2 2"}, {20, many(2), ""}, {40, "", "2 2"}}},
		{"again later without a list in between", []step{{0, many(4), ""}, {1, many(2), "2 4"}, {40, "", "2 2"}}},
		{"the first list", []step{{0, "", ""}, {1, "", ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r roster
			for _, s := range tt.steps {
				got := ""
				if m := r.update(parseList(s.list), time.Unix(int64(s.at), 0)).mass; m != nil {
					got = fmt.Sprint(m.Gone, " ", m.Of)
				}
				if got != s.want {
					t.Errorf("after %d s: mass lapse %q, want %q", s.at, got, s.want)
				}
			}
		})
	}
}

func TestRosterExpires(t *testing.T) {
	var r roster
	at := func(d time.Duration) time.Time { return time.Unix(0, 0).Add(d) }
	r.update(parseList("a b c"), at(0))
	if !r.expiry().IsZero() {
		t.Errorf("expiry %v with nobody in quarantine", r.expiry())
	}
	r.update(parseList("b c"), at(time.Minute))
	r.update(parseList("c"), at(2*time.Minute))
	if got := r.expiry(); !got.Equal(at(16 * time.Minute)) {
		t.Errorf("expiry %v, want a minute and 15", got)
	}
	if gone := r.expire(at(16*time.Minute - 1)); len(gone) > 0 {
		t.Errorf("%v expired too early", gone)
	}
	if gone := r.expire(at(16 * time.Minute)); len(gone) != 1 || gone[0].ID != "a" || !gone[0].since.Equal(at(time.Minute)) {
		t.Errorf("expired %v, want a", gone)
	}
	// A backend that is back gives a minute at least, and takes nothing away.
	r.extend(at(17*time.Minute - 10*time.Second))
	if got := r.expiry(); !got.Equal(at(18*time.Minute - 10*time.Second)) {
		t.Errorf("expiry %v after the return of the backend, want a minute from then", got)
	}
	r.extend(at(3 * time.Minute))
	if got := r.expiry(); !got.Equal(at(18*time.Minute - 10*time.Second)) {
		t.Errorf("expiry %v, want it not to come nearer", got)
	}
}

func TestRosterBegins(t *testing.T) {
	t.Run("snapshot", func(t *testing.T) {
		var r roster
		r.begin(SourceSnapshot, parseList("a b c d-").Instances, []absence{{Instance: parseList("e").Instances[0], since: time.Unix(1, 0)}})
		if got := names(&r); got != "a b c d- e?" {
			t.Errorf("from a snapshot: %q", got)
		}
		out := r.update(parseList("a f"), time.Unix(9, 0))
		if got := names(&r); got != "a b? c? e? f" || !slices.Equal(out.lapsed, []string{"b", "c"}) || r.source != SourceRegistry {
			t.Errorf("after the first list: %q, lapsed %v; want those of the snapshot in quarantine", got, out.lapsed)
		}
		// Most of an old list is gone because it is old.
		if out.mass != nil {
			t.Errorf("%+v, want no mass lapse from a snapshot", out.mass)
		}
	})
	t.Run("fallback", func(t *testing.T) {
		var r roster
		r.begin(SourceFallback, parseList("a b").Instances, nil)
		if out := r.update(parseList("c"), time.Unix(9, 0)); names(&r) != "c" || len(out.lapsed) > 0 {
			t.Errorf("after the first list: %q, lapsed %v; want nobody of the fallback", names(&r), out.lapsed)
		}
	})
}
