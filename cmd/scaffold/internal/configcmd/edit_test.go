package configcmd

import (
	"strings"
	"testing"

	"plinth.internal/config"
)

func TestEdit(t *testing.T) {
	const doc = `# What all know.
clients: # see the handbook
  # slow since May
  billing:
    timeout: 2s # was 1s
    methods: {Charge: {timeout: 500ms}}
  price-list: {timeout: 1s}
telemetry.log.level: info
empty:
`
	set := func(kv ...string) (out [][2]string) {
		for _, s := range kv {
			key, value, _ := strings.Cut(s, "=")
			out = append(out, [2]string{key, value})
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		doc   string
		set   [][2]string
		unset []string
		want  string // "error: ..." for one
	}{
		{"a value", doc, set("clients.billing.timeout=3s"), nil, strings.Replace(doc, "2s #", "3s #", 1)},
		{"in brackets", doc, set("clients.billing.methods.Charge.timeout=1s"), nil, strings.Replace(doc, "500ms", "1s", 1)},
		{"a key in one piece", doc, set("telemetry.log.level=debug"), nil, strings.Replace(doc, "level: info", "level: debug", 1)},
		{"a new key", doc, set("clients.billing.balancer=random"), nil, strings.Replace(doc, "500ms}}\n", "500ms}}\n    balancer: random\n", 1)},
		{"a new section", doc, set("limits.a.b=5"), nil, doc + "limits:\n  a:\n    b: 5\n"},
		{"an empty section", doc, set("empty.x=1"), nil, strings.Replace(doc, "empty:\n", "empty:\n  x: 1\n", 1)},
		{"a list", "", set("a.b=[x, 2]"), nil, "a:\n  b: [x, 2]\n"},
		{"two keys", "", set("a.b=1", "a.c=2"), nil, "a:\n  b: 1\n  c: 2\n"},
		{"what YAML would take for something else", "", set("a=", "b=x: y", "c=*d", "d=#e", "e=null"), nil, "a: \"\"\nb: \"x: y\"\nc: \"*d\"\nd: \"#e\"\ne: null\n"},
		{"comments alone", "# nothing yet", set("a=1"), nil, "# nothing yet\na: 1\n"},
		{"null", "null\n", set("a=1"), nil, "a: 1\n"},
		{"brackets with nothing", "{}\n", set("a=1"), nil, "a: 1\n"},
		{"take out", doc, nil, []string{"clients.price-list"}, strings.Replace(doc, "  price-list: {timeout: 1s}\n", "", 1)},
		{"take out the last of a section", "a: {b: {c: 1}}\nd: 1\n", nil, []string{"a.b.c"}, "d: 1\n"},
		{"take out the last", "a: 1\n", nil, []string{"a"}, ""},
		{"take out and set", "a: 1\n", set("a.b=2"), []string{"a"}, "a:\n  b: 2\n"},
		{"take out what is not there", doc, nil, []string{"clients.billing.nope"}, "error: the document does not set clients.billing.nope"},
		{"below a value", doc, set("clients.billing.timeout.x=1"), nil, "error: line 5 has a plain value for timeout"},
		{"through an alias", "a: &a {x: 1}\nb: *a\n", set("b.x=2"), nil, "error: line 2 stands in several places at once"},
		{"at an anchor", "a: &a {x: 1}\nb: *a\n", set("a.x=2"), nil, "error: line 1 stands in several places at once"},
		{"not good as it is", "a: {", set("b=2"), nil, "error: the document as it is cannot be edited"},
	} {
		got, err := edit([]byte(tt.doc), tt.set, tt.unset)
		text := string(got)
		if err != nil {
			text = "error: " + err.Error()
		}
		if want, isErr := strings.CutPrefix(tt.want, "error: "); isErr && (err == nil || !strings.Contains(err.Error(), want)) || !isErr && text != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, text, tt.want)
		}
	}
}

// FuzzEdit: a document that was edited is one, says what was set, and nothing else is
// another than before.
func FuzzEdit(f *testing.F) {
	for _, doc := range []string{"", "# x\n", "a: 1\n", "a: {b: c} # d\n", "a.b: 1\n", "a: &x {b: 1}\nb: *x\n", "a:\n- b\n", "a: |\n  b\n", "? a\n: b\n", "\ufeffa: 1\n"} {
		f.Add(doc, "a.b", "1")
		f.Add(doc, "c", "[x, y]")
	}
	f.Fuzz(func(t *testing.T, doc, key, value string) {
		if key == "" || strings.Contains(key, "..") || strings.HasPrefix(key, ".") || strings.HasSuffix(key, ".") {
			return
		}
		next, err := edit([]byte(doc), [][2]string{{key, value}}, nil)
		if err != nil {
			return
		}
		if _, err := config.ParseDocument("next", next); err != nil {
			t.Skip() // what it is checked for before it is written
		}
		for _, c := range compare([]byte(doc), next) {
			if c.Key != key && !strings.HasPrefix(c.Key, key+".") {
				t.Errorf("%q with %s=%q is %q, which changes %s", doc, key, value, next, c.Key)
			}
		}
	})
}
