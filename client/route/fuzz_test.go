package route

import "testing"

// pairsOf is a call's headers, or its baggage.
type pairsOf map[string]string

func (p pairsOf) Header(key string) string { return p[key] }
func (p pairsOf) Value(key string) string  { return p[key] }

// FuzzRule: a rule is taken or refused, and one that is taken matches exactly the
// calls that have what it asks for.
func FuzzRule(f *testing.F) {
	f.Add("canary", "x-user", "anna", 50.0, "x-user", "1.4.0", "any", "anna")
	f.Add("", "", "", -1.0, "", "", "", "")
	f.Add("a.b", "x", "*", 100.0, "", "1", "fail", "")
	f.Add("x", "x", "y", 0.0, "by", "1", "never", "y")
	f.Fuzz(func(t *testing.T, name, key, value string, percent float64, by, version, fallback, sent string) {
		r := Rule{Name: name, Headers: map[string]string{key: value}, Baggage: map[string]string{key: value}, Percent: &percent, By: by, Version: version, Fallback: Fallback(fallback)}
		table, err := New(r)
		if (err == nil) != (r.Validate() == nil) {
			t.Fatalf("New says %v, Validate %v", err, r.Validate())
		}
		if err != nil {
			return
		}
		if !(percent >= 0 && percent <= 100) || version == "" || name == "" {
			t.Fatalf("%+v was taken", r)
		}
		call := pairsOf{key: sent}
		got := table.Match(Call{Headers: call, Baggage: call, Rand: func() uint64 { return 0 }})
		meets := sent != "" && (value == Present || value == sent)
		if got == 0 && (!meets || percent == 0) || got == None && meets && percent == 100 {
			t.Fatalf("%+v with %q: %d", r, sent, got)
		}
	})
}
