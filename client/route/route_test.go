package route

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// given are headers, or members of the baggage.
type given map[string]string

func (g given) Header(key string) string { return g[strings.ToLower(key)] }
func (g given) Value(key string) string  { return g[key] }

func table(t testing.TB, rules ...Rule) *Table {
	t.Helper()
	made, err := New(rules...)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestMatch(t *testing.T) {
	rules := table(t,
		Rule{Name: "off", Percent: new(0.0), Version: "9"},
		Rule{Name: "both", Headers: given{"x-canary": "1", "x-user": Present}, Version: "2"},
		Rule{Name: "exact", Headers: given{"X-Canary": "1"}, Version: "2"},
		Rule{Name: "carried", Baggage: given{"canary": "yes"}, Version: "3"},
		Rule{Name: "mixed", Headers: given{"x-a": "1"}, Baggage: given{"b": Present}, Percent: new(100.0), Version: "4"},
	)
	for _, tc := range []struct {
		headers, baggage given
		want             string
	}{
		{nil, nil, ""},
		{given{"x-canary": "1"}, nil, "exact"},
		{given{"x-canary": "1", "x-user": "u"}, nil, "both"},
		{given{"x-canary": "1", "x-user": ""}, nil, "exact"},
		{given{"x-canary": "2"}, nil, ""},
		{nil, given{"canary": "yes"}, "carried"},
		{nil, given{"Canary": "yes"}, ""},
		{given{"canary": "yes"}, nil, ""},
		{given{"x-canary": "1"}, given{"canary": "yes"}, "exact"},
		{given{"x-a": "1"}, nil, ""},
		{given{"x-a": "1"}, given{"b": "anything"}, "mixed"},
	} {
		got := ""
		if i := rules.Match(Call{Headers: tc.headers, Baggage: tc.baggage}); i != None {
			got = rules.At(i).Name
		}
		if got != tc.want {
			t.Errorf("headers %v, baggage %v: %q, want %q", tc.headers, tc.baggage, got, tc.want)
		}
	}
	var none *Table
	if none.Match(Call{}) != None || none.Len() != 0 || !none.Equal(table(t)) {
		t.Error("a nil table has rules")
	}
}

// share is the part of n calls that match the first rule.
func share(rules *Table, n int, headers func(i int) given) float64 {
	random := rand.New(rand.NewPCG(1, 2))
	matched := 0
	for i := range n {
		if rules.Match(Call{Headers: headers(i), Baggage: given{}, Rand: random.Uint64}) == 0 {
			matched++
		}
	}
	return 100 * float64(matched) / float64(n)
}

func TestPercent(t *testing.T) {
	none := func(int) given { return nil }
	keyed := func(i int) given { return given{"x-user": fmt.Sprint("user-", i)} }
	for _, tc := range []struct {
		name    string
		rule    Rule
		headers func(i int) given
		want    float64
	}{
		{"none", Rule{Percent: new(0.0)}, none, 0},
		{"a fraction", Rule{Percent: new(0.5)}, none, 0.5},
		{"five", Rule{Percent: new(5.0)}, none, 5},
		{"all", Rule{Percent: new(100.0)}, none, 100},
		{"by a key", Rule{Percent: new(5.0), By: "X-User"}, keyed, 5},
		{"none by a key", Rule{Percent: new(0.0), By: "X-User"}, keyed, 0},
		{"all by a key", Rule{Percent: new(100.0), By: "X-User"}, keyed, 100},
		{"by a key that is absent", Rule{Percent: new(5.0), By: "x-user"}, none, 5},
		{"of those with a header", Rule{Percent: new(50.0), Headers: given{"x-canary": "1"}}, func(i int) given {
			if i%10 == 0 {
				return given{"x-canary": "1"}
			}
			return nil
		}, 5},
	} {
		tc.rule.Name, tc.rule.Version = "canary", "2"
		got := share(table(t, tc.rule), 20_000, tc.headers)
		t.Logf("%s: %.2f %%", tc.name, got)
		if edge := tc.want == 0 || tc.want == 100; math.Abs(got-tc.want) > 1 || edge && got != tc.want || !edge && got == 0 {
			t.Errorf("%s: %.2f %%, want %.2f", tc.name, got, tc.want)
		}
	}
}

// TestSticky: the same key decides alike, those within a percentage stay within a
// larger one, and rules of other names choose other keys.
func TestSticky(t *testing.T) {
	rule := func(name string, percent float64) *Table {
		return table(t, Rule{Name: name, Percent: &percent, By: "x-user", Version: "2"})
	}
	five, again, twenty, other := rule("canary", 5), rule("canary", 5), rule("canary", 20), rule("other", 5)
	in := func(rules *Table, i int) bool {
		return rules.Match(Call{Headers: given{"x-user": strconv.Itoa(i)}, Baggage: given{}}) == 0
	}
	both, total := 0, 0
	for i := range 10_000 {
		if in(five, i) != in(again, i) {
			t.Fatalf("key %d does not decide alike", i)
		}
		if in(five, i) && !in(twenty, i) {
			t.Fatalf("key %d is in 5 %% and not in 20 %%", i)
		}
		if in(five, i) {
			total++
			if in(other, i) {
				both++
			}
		}
	}
	if both > total/4 {
		t.Errorf("%d of %d keys are in the 5 %% of two rules", both, total)
	}
}

func TestDivide(t *testing.T) {
	rules := table(t,
		Rule{Name: "version", Version: "2", Percent: new(0.0)},
		Rule{Name: "track", Metadata: given{"track": "canary"}},
		Rule{Name: "both", Version: "2", Metadata: given{"track": "canary"}},
		Rule{Name: "nobody", Version: "4"},
	)
	type instance struct {
		version  string
		metadata map[string]string
	}
	list := []instance{{"1", nil}, {"2", nil}, {"1", given{"track": "canary"}}, {"2", given{"track": "canary", "x": "y"}}, {"", given{"track": "stable"}}}
	d := rules.Divide(len(list), func(i int) (string, map[string]string) { return list[i].version, list[i].metadata })
	want := [][]int{{1, 3}, {2, 3}, {3}, nil}
	if !slices.Equal(d.Ordinary, []int{0, 4}) || !slices.EqualFunc(d.Rules, want, slices.Equal) {
		t.Errorf("divided into %+v", d)
	}
}

func TestValidate(t *testing.T) {
	good := func(change func(*Rule)) Rule {
		r := Rule{Name: "canary", Version: "2"}
		change(&r)
		return r
	}
	for _, tc := range []struct {
		rules []Rule
		want  string // "" = none
	}{
		{[]Rule{good(func(*Rule) {})}, ""},
		{nil, ""},
		{[]Rule{good(func(r *Rule) { r.Name = "" })}, `set Name of rule "" to "": must not be empty`},
		{[]Rule{good(func(r *Rule) { r.Name = Ordinary })}, `set Name of rule "ordinary" to "ordinary": must be another one`},
		{[]Rule{good(func(*Rule) {}), good(func(*Rule) {})}, `must be unique`},
		{[]Rule{good(func(r *Rule) { r.Version = "" })}, `must not be empty where there is no metadata either`},
		{[]Rule{good(func(r *Rule) { r.Percent = new(101.0) })}, `set Percent of rule "canary" to "101": must be from 0 to 100`},
		{[]Rule{good(func(r *Rule) { r.Percent = new(-0.5) })}, `must be from 0 to 100`},
		{[]Rule{good(func(r *Rule) { r.Percent = new(math.NaN()) })}, `must be from 0 to 100`},
		{[]Rule{good(func(r *Rule) { r.By = "x-user" })}, `must stand beside a percentage`},
		{[]Rule{good(func(r *Rule) { r.By, r.Percent = "x user", new(1.0) })}, `must be the name of a header`},
		{[]Rule{good(func(r *Rule) { r.Headers = given{"x y": "1"} })}, `set Headers["x y"] of rule "canary" to "1": must be for a header`},
		{[]Rule{good(func(r *Rule) { r.Headers = given{"x": ""} })}, `must not be empty, for an empty header`},
		{[]Rule{good(func(r *Rule) { r.Baggage = given{"": "1"} })}, `must be for a member with a name`},
		{[]Rule{good(func(r *Rule) { r.Baggage = given{"x": ""} })}, `must not be empty, for an empty member`},
		{[]Rule{good(func(r *Rule) { r.Fallback = "none" })}, `must be any or fail`},
	} {
		made, err := New(tc.rules...)
		switch {
		case tc.want == "" && (err != nil || made.Len() != len(tc.rules)):
			t.Errorf("%+v: %v", tc.rules, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%+v:\n%v, want\n%s", tc.rules, err, tc.want)
		}
	}
}

func TestEqual(t *testing.T) {
	base := Rule{Name: "canary", Headers: given{"x": "1"}, Percent: new(5.0), Version: "2"}
	same := base
	same.Headers, same.Percent, same.Fallback = given{"x": "1"}, new(5.0), FallbackAny
	if !table(t, base).Equal(table(t, same)) {
		t.Error("equal rules differ")
	}
	for name, change := range map[string]func(*Rule){
		"name":     func(r *Rule) { r.Name = "c" },
		"headers":  func(r *Rule) { r.Headers = nil },
		"baggage":  func(r *Rule) { r.Baggage = given{"x": "1"} },
		"percent":  func(r *Rule) { r.Percent = new(6.0) },
		"all":      func(r *Rule) { r.Percent = nil },
		"by":       func(r *Rule) { r.By = "x" },
		"version":  func(r *Rule) { r.Version = "3" },
		"metadata": func(r *Rule) { r.Metadata = given{"x": "1"} },
		"fallback": func(r *Rule) { r.Fallback = FallbackFail },
	} {
		other := base
		change(&other)
		if table(t, base).Equal(table(t, other)) {
			t.Errorf("another %s makes no difference", name)
		}
	}
}

func TestWords(t *testing.T) {
	r := Rule{
		Name: "canary", Headers: given{"x-b": "*", "x-a": "1"}, Baggage: given{"canary": "1"}, Percent: new(2.5), By: "x-user",
		Version: "1.4.0", Metadata: given{"track": "canary"},
	}
	if got, want := r.Calls(), "2.5 % of calls with header x-a=1 and header x-b=* and baggage canary=1, by header x-user"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := r.Instances(), "version 1.4.0 and metadata track=canary"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (&Rule{}).Calls(); got != "calls" {
		t.Error(got)
	}
}

func BenchmarkMatch(b *testing.B) {
	rules := table(b, Rule{Name: "canary", Headers: given{"x-canary": "1"}, Version: "2"}, Rule{Name: "some", Percent: new(5.0), Version: "2"})
	call := Call{Headers: given{}, Baggage: given{}}
	b.ReportAllocs()
	for b.Loop() {
		rules.Match(call)
	}
}
