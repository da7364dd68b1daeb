package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"plinth.internal/config"
)

// level is a type with a text form of its own.
type level int

func (l *level) UnmarshalText(b []byte) error {
	switch string(b) {
	case "low":
		*l = 1
	case "high":
		*l = 2
	default:
		return errors.New("want low or high")
	}
	return nil
}

func (l level) MarshalText() ([]byte, error) { return []byte([]string{"none", "low", "high"}[l]), nil }

type common struct {
	Timeout time.Duration `yaml:"timeout"`
	Retry   struct {
		MaxAttempts int `yaml:"max_attempts"`
	} `yaml:"retry"`
}

type clientOf struct {
	common `yaml:",inline"`

	Balancer string            `yaml:"balancer"`
	Methods  map[string]common `yaml:"methods"`
}

type everything struct {
	App struct {
		Name    string        `yaml:"name" doc:"what it is called"`
		On      bool          `yaml:"on"`
		Count   int           `yaml:"count"`
		Small   int8          `yaml:"small"`
		Size    uint16        `yaml:"size"`
		Ratio   float64       `yaml:"ratio"`
		Wait    time.Duration `yaml:"wait"`
		Level   level         `yaml:"level"`
		Secret  config.Secret `yaml:"secret"`
		Names   []string      `yaml:"names"`
		Waits   []time.Duration
		Pauses  []time.Duration `yaml:"pauses"`
		Ignored string          `yaml:"-"`
		hidden  string          `yaml:"hidden"`
	} `yaml:"app"`
	Static  map[string][]string      `yaml:"static"`
	Tokens  map[string]config.Secret `yaml:"tokens"`
	Clients map[string]clientOf      `yaml:"clients"`
	Named   common                   `yaml:",inline"`
}

func defaults() everything {
	var e everything
	e.App.Name, e.App.Count, e.App.Ratio, e.App.Wait, e.App.Names = "default", 1, 0.5, time.Second, []string{"d"}
	e.App.Waits = []time.Duration{1}
	return e
}

// load loads from the text of a file, variables and flags.
func load(t testing.TB, file string, env, flags []string) (*config.Config, error) {
	t.Helper()
	opts := []config.Option{config.WithEnviron(env), config.WithFlags(flags)}
	if file != "" {
		path := filepath.Join(t.TempDir(), "app.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		opts = append(opts, config.WithFile(path, true))
	}
	return config.Load(opts...)
}

// bind loads and binds everything at the root, and reports what is unused.
func bind(t testing.TB, file string, env, flags []string) (everything, *config.Config, error) {
	t.Helper()
	c, err := load(t, file, env, flags)
	if err != nil {
		return everything{}, nil, err
	}
	e, err := config.Bind(c, "", defaults())
	if err == nil {
		err = c.Unused()
	}
	return e, c, err
}

// TestPrecedence gives a key of every type in every combination of layers.
func TestPrecedence(t *testing.T) {
	for _, tc := range []struct {
		key             string
		file, env, flag string // as written in each layer
		get             func(everything) any
		want            [4]any // default, file, env, flag
	}{
		{"app.name", "f", "e", "g", func(e everything) any { return e.App.Name }, [4]any{"default", "f", "e", "g"}},
		{"app.on", "true", "false", "1", func(e everything) any { return e.App.On }, [4]any{false, true, false, true}},
		{"app.count", "2", "-3", "4", func(e everything) any { return e.App.Count }, [4]any{1, 2, -3, 4}},
		{"app.small", "2", "-128", "127", func(e everything) any { return e.App.Small }, [4]any{int8(0), int8(2), int8(-128), int8(127)}},
		{"app.size", "2", "3", "65535", func(e everything) any { return e.App.Size }, [4]any{uint16(0), uint16(2), uint16(3), uint16(65535)}},
		{"app.ratio", "0.25", "1e-3", "2", func(e everything) any { return e.App.Ratio }, [4]any{0.5, 0.25, 0.001, 2.0}},
		{"app.wait", "2s", "1m30s", "5ms", func(e everything) any { return e.App.Wait }, [4]any{time.Second, 2 * time.Second, 90 * time.Second, 5 * time.Millisecond}},
		{"app.level", "low", "high", "low", func(e everything) any { return e.App.Level }, [4]any{level(0), level(1), level(2), level(1)}},
		{"app.secret", "f", "e", "g", func(e everything) any { return string(e.App.Secret) }, [4]any{"", "f", "e", "g"}},
		{"app.names", "[f, 'g,h']", "e, i", "", func(e everything) any { return e.App.Names }, [4]any{[]string{"d"}, []string{"f", "g,h"}, []string{"e", "i"}, []string{}}},
		{"app.pauses", "[1s, 2s]", "3s", "4s,5s", func(e everything) any { return e.App.Pauses }, [4]any{[]time.Duration(nil), []time.Duration{1e9, 2e9}, []time.Duration{3e9}, []time.Duration{4e9, 5e9}}},
		{"static.billing", "[a, b]", "c", "d,e", func(e everything) any { return e.Static["billing"] }, [4]any{[]string(nil), []string{"a", "b"}, []string{"c"}, []string{"d", "e"}}},
		{"clients.price-list.timeout", "1s", "2s", "3s", func(e everything) any { return e.Clients["price-list"].Timeout }, [4]any{time.Duration(0), time.Second, 2 * time.Second, 3 * time.Second}},
		{"clients.price-list.retry.max_attempts", "1", "2", "3", func(e everything) any { return e.Clients["price-list"].Retry.MaxAttempts }, [4]any{0, 1, 2, 3}},
		{"timeout", "1s", "2s", "3s", func(e everything) any { return e.Named.Timeout }, [4]any{time.Duration(0), time.Second, 2 * time.Second, 3 * time.Second}},
	} {
		for layers := range 8 {
			var file strings.Builder
			var env, flags []string
			want := tc.want[0]
			kind := config.KindDefault
			if layers&1 != 0 {
				parts := strings.Split(tc.key, ".")
				for i, p := range parts {
					file.WriteString(strings.Repeat("  ", i) + p + ":")
					if i < len(parts)-1 {
						file.WriteString("\n")
					}
				}
				file.WriteString(" " + tc.file + "\n")
				want, kind = tc.want[1], config.KindFile
			}
			if layers&2 != 0 {
				env = []string{"HOME=/", config.EnvName(tc.key) + "=" + tc.env}
				want, kind = tc.want[2], config.KindEnv
			}
			if layers&4 != 0 {
				flags = []string{tc.key + "=" + tc.flag}
				want, kind = tc.want[3], config.KindFlag
			}
			e, c, err := bind(t, file.String(), env, flags)
			if err != nil {
				t.Errorf("%s, layers %b: %v", tc.key, layers, err)
				continue
			}
			if got := tc.get(e); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, layers %b: %#v, want %#v", tc.key, layers, got, want)
			}
			for _, entry := range c.Entries() {
				if entry.Key == tc.key && entry.Source.Kind != kind {
					t.Errorf("%s, layers %b: comes from %v, want %s", tc.key, layers, entry.Source, kind)
				}
			}
		}
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		name  string
		file  string
		env   []string
		flags []string
		want  []string // each in the error
	}{
		{"unknown in a file", "app:\n  name: x\n  naem: y\n", nil, nil, []string{"app.yaml:3: app.naem: is not a known key, did you mean app.name?"}},
		{"unknown flag", "", nil, []string{"app.conut=1"}, []string{"flag --app.conut: app.conut: is not a known key, did you mean app.count?"}},
		{"unknown variable", "", []string{"PLINTH_APP_RATOI=1"}, nil, []string{"environment variable PLINTH_APP_RATOI: app.ratoi: is not a known key, did you mean app.ratio?"}},
		{"unknown section", "ap:\n  name: x\n", nil, nil, []string{"app.yaml:2: ap.name: is not a known key, did you mean app.name?"}},
		{"unknown empty section", "aap:\n", nil, nil, []string{"app.yaml:1: aap: is not a known key"}},
		{"unknown empty mapping", "aap: {}\n", nil, nil, []string{"app.yaml:1: aap: is not a known key"}},
		{"unknown below a map", "clients:\n  billing:\n    timeot: 1s\n", nil, nil, []string{"app.yaml:3: clients.billing.timeot: is not a known key, did you mean clients.billing.timeout?"}},
		{
			"full name of a method", "clients:\n  a:\n    methods:\n      zz.v1.Echo/Do:\n        timeout: 1s\n", nil, nil,
			[]string{"app.yaml:5: clients.a.methods.zz.v1.Echo/Do.timeout: is not a known key: dots divide keys, and so a method is named without its package and service, as in Do"},
		},
		{"full name of a method in a flag", "", nil, []string{"clients.a.methods.zz.v1.Echo/Do.timeout=1s"}, []string{"flag --clients.a.methods.zz.v1.Echo/Do.timeout: ", "as in Do"}},
		{"nothing near", "app:\n  zzzzzzzz: 1\n", nil, nil, []string{"app.zzzzzzzz: is not a known key"}},
		{"twice", "app:\n  name: x\n  on: true\n  name: y\n", nil, nil, []string{"app.yaml:4: app.name: is given twice, first on line 2"}},
		{"twice in two spellings", "app.name: x\napp:\n  name: y\n", nil, nil, []string{"app.yaml:3: app.name: is given twice, first on line 1"}},
		{"flag twice", "", nil, []string{"app.name=x", "app.name=y"}, []string{"flag --app.name: app.name: is given twice"}},
		{"bool", "app:\n  on: yes\n", nil, nil, []string{`app.yaml:2: app.on: "yes" is not a truth value, want true or false`}},
		{"int", "app:\n  count: 1.5\n", nil, nil, []string{`app.count: "1.5" is not a whole number`}},
		{"small int", "app:\n  small: 128\n", nil, nil, []string{`app.small: "128" is not a whole number that fits`}},
		{"uint", "app:\n  size: -1\n", nil, nil, []string{`app.size: "-1" is not a whole number of zero or more`}},
		{"float", "app:\n  ratio: half\n", nil, nil, []string{`app.ratio: "half" is not a number`}},
		{"duration", "app:\n  wait: 5\n", nil, nil, []string{`app.wait: "5" is not a duration, want one with a unit`}},
		{"text", "app:\n  level: medium\n", nil, nil, []string{`app.level: "medium" is not usable: want low or high`}},
		{"list element", "app:\n  pauses: [1s, 2]\n", nil, nil, []string{`app.pauses: "1s,2" is not a duration`}},
		{"list for a value", "app:\n  name: [a, b]\n", nil, nil, []string{`app.name: "a,b" is a list, want one value`}},
		{"list of lists", "app:\n  names: [a, [b]]\n", nil, nil, []string{"app.yaml:2: app.names: is a list of something else than plain values"}},
		{"list with nothing in it", "app:\n  names:\n    - a\n    -\n", nil, nil, []string{"app.names: is a list of something else than plain values"}},
		{"value for a section", "app: 5\n", nil, nil, []string{`app.yaml:1: app: "5" is a plain value, want keys below app`}},
		{"list for a section", "app: [a]\n", nil, nil, []string{`app: "a" is a plain value, want keys below app`}},
		{"variable for a section", "", []string{"PLINTH_APP=5"}, nil, []string{`environment variable PLINTH_APP: app: "5" is a plain value`}},
		{"flag for a section", "", nil, []string{"app=5"}, []string{`flag --app: app: "5" is a plain value`}},
		{"value for a map", "clients: x\n", nil, nil, []string{`clients: "x" is a plain value, want keys below clients`}},
		{"section for a value", "app:\n  name:\n    first: x\n", nil, nil, []string{"app.yaml:3: app.name.first: is not a known key"}},
		{"section for a value of a map", "static:\n  billing:\n    grpc: [a]\n", nil, nil, []string{"app.yaml:3: static.billing.grpc: is nested too deep, want plain values below static"}},
		{"merge key", "base: &b\n  name: x\napp:\n  <<: *b\n", nil, nil, []string{"app.yaml:4: app: uses the merge key <<"}},
		{"mapping for a key", "? {a: b}\n: c\n", nil, nil, []string{"app.yaml:1: has a key that is not a plain word"}},
		{"empty key", "app:\n  \"\": x\n", nil, nil, []string{"app.yaml:2: app: has a key that is not a plain word"}},
		{"list at the root", "- a\n", nil, nil, []string{"app.yaml:1: want a mapping of keys to values"}},
		{"scalar at the root", "hello\n", nil, nil, []string{"app.yaml:1: want a mapping of keys to values"}},
		{"not YAML", "app:\n  name: x\n\tcount: 1\n", nil, nil, []string{"app.yaml:", "not YAML"}},
		{"unfinished", "app: [a, b\n", nil, nil, []string{"app.yaml:", "not YAML"}},
		{"unknown anchor", "app:\n  name: x\nclients:\n  a: *x\nstatic: {}\n", nil, nil, []string{"app.yaml:4: not YAML: unknown anchor 'x' referenced"}},
		{"unknown anchor in a second document", "app:\n---\napp: *x\n", nil, nil, []string{"app.yaml:3: not YAML: unknown anchor 'x' referenced"}},
		{"wrong from the first line on", "a: b\n- c\n", nil, nil, []string{"app.yaml:2: not YAML: did not find expected key"}},
		{"wrong in a mapping that begins before", "app:\n  name: x\n  on: true\n - b\nstatic: {}\n", nil, nil, []string{"app.yaml:4: not YAML: did not find expected"}},
		{"a bracket that nothing closes", "app:\n  names: [a, b\n  on: true\nstatic: {}\n", nil, nil, []string{"app.yaml:2: not YAML: did not find expected ',' or ']'"}},
		{"wrong on the first line", "app: ]\n", nil, nil, []string{"app.yaml:1: not YAML: did not find expected"}},
		{"what no text has", "app:\n  name: x\n  on: \x01\n", nil, nil, []string{"app.yaml:3: not YAML: control characters are not allowed"}},
		{"empty duration", "app:\n  wait: ''\n", nil, nil, []string{`app.yaml:2: app.wait: "" is not a duration`}},
		{"empty variable", "", []string{"PLINTH_APP_COUNT="}, nil, []string{`environment variable PLINTH_APP_COUNT: app.count: "" is not a whole number`}},
		{"two documents", "app:\n  name: x\n---\napp:\n  name: y\n", nil, nil, []string{"app.yaml:3: a second document begins here"}},
		{"flag without a value", "", nil, []string{"app.name"}, []string{"flag --app.name: app.name: has no value, want --app.name=VALUE"}},
		{"flag without a name", "", nil, []string{"=x"}, []string{"flag --: is not a setting"}},
		{
			"all at once", "app:\n  on: maybe\n  wait: 5\n  naem: x\n", []string{"PLINTH_APP_COUNT=many"}, []string{"app.size=-1"},
			[]string{"app.on:", "app.wait:", "app.naem:", "environment variable PLINTH_APP_COUNT", "flag --app.size"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := bind(t, tc.file, tc.env, tc.flags)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error\n%v\ndoes not say\n%s", err, want)
				}
			}
			if len(tc.want) == 1 && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one error:\n%v", err)
			}
		})
	}
}

// TestNull: a key with nothing behind it sets nothing, however it is written.
func TestNull(t *testing.T) {
	for _, file := range []string{
		"app:\n", "app: {}\n", "app:\n  name:\n", "app:\n  name: ~\n", "app:\n  name: null\n", "app:\n  names:\n",
		"app:\n  name: {}\n", "", "# nothing\n", "---\n", "null\n", "{}\n", "clients:\n", "static: ~\n",
	} {
		e, _, err := bind(t, file, nil, nil)
		if err != nil || !reflect.DeepEqual(e, defaults()) {
			t.Errorf("%q: %+v, %v", file, e, err)
		}
	}
	// An empty string and an empty list are values, and so is the word.
	e, _, err := bind(t, "app:\n  name: ''\n  names: []\n", nil, nil)
	if err != nil || e.App.Name != "" || e.App.Names == nil || len(e.App.Names) != 0 {
		t.Errorf("%+v, %v", e, err)
	}
	if e, _, err = bind(t, "app:\n  name: 'null'\n", nil, nil); err != nil || e.App.Name != "null" {
		t.Errorf("%+v, %v", e, err)
	}
	// A map's key with nothing behind it is there.
	if e, _, err = bind(t, "clients:\n  billing:\n", nil, nil); err != nil || len(e.Clients) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestMaps checks which keys a map gets, from where.
func TestMaps(t *testing.T) {
	for _, tc := range []struct {
		name  string
		file  string
		env   []string
		flags []string
		want  map[string]time.Duration // clients and their timeouts
		err   string
	}{
		{"file", "clients:\n  a:\n    timeout: 1s\n  b:\n    balancer: x\n", nil, nil, map[string]time.Duration{"a": time.Second, "b": 0}, ""},
		{"flag", "", nil, []string{"clients.a_b.timeout=1s"}, map[string]time.Duration{"a_b": time.Second}, ""},
		{"variable", "", []string{"PLINTH_CLIENTS_PRICE_LIST_TIMEOUT=1s"}, nil, map[string]time.Duration{"price-list": time.Second}, ""},
		{
			"variable for a known key with an underscore", "clients:\n  price_list:\n    balancer: x\n",
			[]string{"PLINTH_CLIENTS_PRICE_LIST_TIMEOUT=1s"}, nil, map[string]time.Duration{"price_list": time.Second}, "",
		},
		{
			"variable for a known key with capitals", "clients:\n  PriceList:\n    balancer: x\n",
			[]string{"PLINTH_CLIENTS_PRICELIST_TIMEOUT=1s"}, nil, map[string]time.Duration{"PriceList": time.Second}, "",
		},
		{"longest leaf wins", "", []string{"PLINTH_CLIENTS_A_RETRY_MAX_ATTEMPTS=2"}, nil, map[string]time.Duration{"a": 0}, ""},
		{"no such leaf", "", []string{"PLINTH_CLIENTS_A_TIMEOUTS=1s"}, nil, nil, "environment variable PLINTH_CLIENTS_A_TIMEOUTS"},
		{
			"variable for a known method", "clients:\n  a:\n    methods:\n      Get:\n        timeout: 1s\n",
			[]string{"PLINTH_CLIENTS_A_METHODS_GET_TIMEOUT=2s"}, nil, map[string]time.Duration{"a": 0}, "",
		},
		// A name in capitals cannot be told from any other, and a method that
		// nobody has must not look like a setting that works.
		{"variable for an unknown method", "clients:\n  a:\n    timeout: 1s\n", []string{"PLINTH_CLIENTS_A_METHODS_GET_TIMEOUT=2s"}, nil, nil, "a variable can only change keys that a file or a flag names"},
		{"variable for a method of an unknown client", "", []string{"PLINTH_CLIENTS_A_METHODS_GET_TIMEOUT=2s"}, nil, nil, "PLINTH_CLIENTS_A_METHODS_GET_TIMEOUT"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, _, err := bind(t, tc.file, tc.env, tc.flags)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("err = %v, want %q", err, tc.err)
				}
				return
			}
			got := map[string]time.Duration{}
			for name, c := range e.Clients {
				got[name] = c.Timeout
			}
			if err != nil || !maps.Equal(got, tc.want) {
				t.Errorf("clients %v, %v, want %v", got, err, tc.want)
			}
			if m := e.Clients["a"].Methods; tc.name == "variable for a known method" && (len(m) != 1 || m["Get"].Timeout != 2*time.Second) {
				t.Errorf("methods %v", m)
			}
		})
	}
	e, _, err := bind(t, "static:\n  a.b: [x]\n", []string{"PLINTH_STATIC_PRICE_LIST=y,z"}, []string{"static.c.d=w"})
	want := map[string][]string{"a.b": {"x"}, "price-list": {"y", "z"}, "c.d": {"w"}}
	if err != nil || !reflect.DeepEqual(e.Static, want) {
		t.Errorf("static %v, %v, want %v", e.Static, err, want)
	}
}

// TestDefaultsAreKept: what Bind is given is not written to.
func TestDefaultsAreKept(t *testing.T) {
	c, err := load(t, "app:\n  names: [x]\nstatic:\n  a: [x]\nclients:\n  a:\n    timeout: 1s\n    methods:\n      Get:\n        timeout: 1s\n", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	given := defaults()
	given.Static = map[string][]string{"a": {"default"}}
	given.Clients = map[string]clientOf{"a": {Balancer: "b", Methods: map[string]common{"Get": {Timeout: 5}}}}
	bound, err := config.Bind(c, "", given)
	if err != nil {
		t.Fatal(err)
	}
	if given.App.Names[0] != "d" || given.Static["a"][0] != "default" || given.Clients["a"].Timeout != 0 || given.Clients["a"].Methods["Get"].Timeout != 5 {
		t.Errorf("the defaults became %+v", given)
	}
	if a := bound.Clients["a"]; a.Balancer != "b" || a.Timeout != time.Second || a.Methods["Get"].Timeout != time.Second || bound.Static["a"][0] != "x" {
		t.Errorf("bound %+v", bound)
	}
}

// TestAllOrNothing: a struct that does not hold leaves no trace.
func TestAllOrNothing(t *testing.T) {
	c, err := load(t, "app:\n  name: x\n  count: many\n", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := config.Bind(c, "", defaults())
	if err == nil || !reflect.DeepEqual(e, defaults()) {
		t.Errorf("%+v, %v", e, err)
	}
	if len(c.Entries()) != 0 {
		t.Errorf("entries %v", c.Entries())
	}
	if err := c.Unused(); err == nil || !strings.Contains(err.Error(), "app.name") {
		t.Errorf("unused: %v", err)
	}
}

func TestSections(t *testing.T) {
	c, err := load(t, "app:\n  name: x\nmine:\n  size: 3\nother:\n  x: 1\n", []string{"PLINTH_MINE_NAME=n"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Bind(c, "", defaults()); err != nil {
		t.Fatal(err)
	}
	type mine struct {
		Size int    `yaml:"size"`
		Name string `yaml:"name"`
	}
	if m, err := config.Bind(c, "mine", mine{}); err != nil || m != (mine{3, "n"}) {
		t.Errorf("mine = %+v, %v", m, err)
	}
	if err := c.Unused(); err == nil || err.Error() != filepath.Join(filepath.Dir(fileOf(c)), "app.yaml")+":6: other.x: is not a known key" {
		t.Errorf("unused: %v", err)
	}
	type less struct {
		Name string `yaml:"name"`
	}
	if _, err := config.Bind(c, "mine", less{}); err == nil || !strings.Contains(err.Error(), "mine.size: is not a known key") {
		t.Errorf("below a path: %v", err)
	}
}

// fileOf is the file that a value came from.
func fileOf(c *config.Config) string {
	for _, e := range c.Entries() {
		if e.Source.Kind == config.KindFile {
			return e.Source.Name
		}
	}
	return ""
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.yaml")
	if _, err := config.Load(config.WithFile(missing, false)); err != nil {
		t.Errorf("an optional file: %v", err)
	}
	if _, err := config.Load(config.WithFile(missing, true)); err == nil || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("a required file: %v", err)
	}
	if _, err := config.Load(config.WithFile(dir, false)); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := config.Load(); err != nil {
		t.Errorf("nothing: %v", err)
	}
}

// TestHostile: a file that would unfold without end is turned down at once.
func TestHostile(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 {x: 1, y: 2}\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d {x: *a%d, y: *a%d}\n", i, i, i-1, i-1)
	}
	for name, file := range map[string]string{
		"bomb":       bomb.String(),
		"cycle":      "a: &a {b: *a, c: *a}\n",
		"long cycle": "a: &a\n  b: &b\n    c: *a\n    d: *b\n    e: *a\n",
		"deep":       strings.Repeat("{a: ", 200) + "1" + strings.Repeat("}", 200),
		"deeper":     strings.Repeat("{a: ", 100_000),
		"list cycle": "a: &a [*a]\n",
		"wide": func() string {
			var b strings.Builder
			for i := range 100_100 { // a little more than is read
				fmt.Fprintf(&b, "k%d: 1\n", i)
			}
			return b.String()
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan error, 1)
			go func() {
				_, err := load(t, file, nil, nil)
				done <- err
			}()
			select {
			case err := <-done:
				if err == nil || len(err.Error()) > 10_000 {
					t.Errorf("err = %.200v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("it hangs")
			}
		})
	}
}

// TestAliases: harmless ones work.
func TestAliases(t *testing.T) {
	e, _, err := bind(t, "app:\n  wait: &w 7s\n  names: &n [a]\ntimeout: *w\nstatic:\n  x: *n\nclients:\n  a: &c {timeout: *w}\n  b: *c\n", nil, nil)
	if err != nil || e.Named.Timeout != 7*time.Second || !slices.Equal(e.Static["x"], []string{"a"}) || e.Clients["b"].Timeout != 7*time.Second {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestServiceLinks: what Kubernetes sets for a Service called plinth-db or
// plinth is no setting; variables that only look like it are.
func TestServiceLinks(t *testing.T) {
	links := func(prefix string) []string {
		return []string{
			prefix + "_SERVICE_HOST=10.0.0.1", prefix + "_SERVICE_PORT=5432", prefix + "_SERVICE_PORT_DB=5432",
			prefix + "_PORT=tcp://10.0.0.1:5432", prefix + "_PORT_5432_TCP=tcp://10.0.0.1:5432",
			prefix + "_PORT_5432_TCP_PROTO=tcp", prefix + "_PORT_5432_TCP_PORT=5432", prefix + "_PORT_5432_TCP_ADDR=10.0.0.1",
		}
	}
	for _, prefix := range []string{"PLINTH_DB", "PLINTH", "PLINTH_DB_PORT", "PLINTH_A_SERVICE_HOST"} {
		if _, _, err := bind(t, "", links(prefix), nil); err != nil {
			t.Errorf("%s: %v", prefix, err)
		}
	}
	type db struct {
		Host string `yaml:"service_host"`
		Port int    `yaml:"port"`
	}
	c, err := load(t, "", []string{"PLINTH_DB_PORT=5432", "PLINTH_DB_SERVICE_HOST=db.example", "PLINTHX=1", "PLINTH_ODD"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := config.Bind(c, "db", db{}); err != nil || got != (db{"db.example", 5432}) {
		t.Errorf("db = %+v, %v", got, err)
	}
	if err := c.Unused(); err != nil {
		t.Errorf("unused: %v", err)
	}
	c, err = load(t, "", append(links("PLINTH_DB"), "PLINTH_DB_PORTS=1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Unused(); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "PLINTH_DB_PORTS") {
		t.Errorf("unused: %v", err)
	}
}

const hush = "hunter2"

// TestSecret tries every way that a secret could be shown.
func TestSecret(t *testing.T) {
	s := config.Secret(hush)
	type holder struct {
		S config.Secret            `json:"s"`
		L []config.Secret          `json:"l"`
		M map[string]config.Secret `json:"m"`
	}
	h := holder{s, []config.Secret{s}, map[string]config.Secret{"k": s}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%e", "%10s", "%!"} {
		for _, v := range []any{s, &s, h, &h, h.L, h.M} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, hush) || strings.Contains(strings.ToLower(got), fmt.Sprintf("%x", hush)) {
				t.Errorf("%s of a %T shows %s", verb, v, got)
			}
		}
	}
	if got := fmt.Sprintf("%v %s %q %#v", s, s, s, s); got != `*** *** "***" "***"` {
		t.Errorf("printed as %s", got)
	}
	if b, err := json.Marshal(h); err != nil || string(b) != `{"s":"***","l":["***"],"m":{"k":"***"}}` {
		t.Errorf("JSON is %s, %v", b, err)
	}
	if got := config.Secret("").String(); got != "" {
		t.Errorf("an empty one is %q", got)
	}
	if string(s) != hush {
		t.Error("the secret is lost")
	}
}

// TestSecretInErrors: neither the effective values nor any error shows one.
func TestSecretInErrors(t *testing.T) {
	type secrets struct {
		One  config.Secret            `yaml:"one"`
		List []config.Secret          `yaml:"list"`
		Map  map[string]config.Secret `yaml:"map"`
	}
	type root struct {
		S secrets `yaml:"s"`
	}
	show := func(file string) string {
		c, err := load(t, file, nil, nil)
		if err != nil {
			return err.Error()
		}
		r, err := config.Bind(c, "", root{})
		return fmt.Sprint(err, r, c.Entries(), c.Unused())
	}
	for _, file := range []string{
		"s:\n  one: hunter2\n  list: [hunter2, x]\n  map:\n    a: hunter2\n",
		"s:\n  one: [hunter2]\n", "s:\n  one:\n    hunter: hunter2\n", "s:\n  list:\n    a: hunter2\n",
		"s:\n  map: hunter2\n", "s:\n  map: [hunter2]\n", "s:\n  map:\n    a: [hunter2]\n", "s:\n  map:\n    a: {b: hunter2}\n",
		"s:\n  onee: hunter2\n", "z:\n  one: hunter2\n",
	} {
		if got := show(file); strings.Contains(got, hush) {
			t.Errorf("%q shows %s", file, got)
		}
	}
	c, err := load(t, "s:\n  one: hunter2\n  map:\n    a: hunter2\n", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := config.Bind(c, "", root{}); err != nil || string(r.S.One) != hush || string(r.S.Map["a"]) != hush {
		t.Errorf("%v", err)
	}
}

type limits struct {
	Low  int            `yaml:"low"`
	High int            `yaml:"high"`
	Sub  map[string]sub `yaml:"sub"`
	One  sub            `yaml:"one"`
}

type sub struct {
	N int `yaml:"n"`
}

func (s *sub) Validate() error {
	if s.N < 0 {
		return config.Invalid("n", "is below zero")
	}
	return nil
}

func (l *limits) Validate() error {
	var errs []error
	if l.Low > l.High {
		errs = append(errs, errors.Join(config.Invalid("low", "is above high, %d", l.High), config.Invalid("high", "is below low")))
	}
	if l.High == 13 {
		errs = append(errs, errors.New("thirteen"))
	}
	return errors.Join(errs...)
}

func TestValidate(t *testing.T) {
	file := "limits:\n  low: 20\n  high: 13\n  sub:\n    a:\n      n: -1\n    b:\n      n: 1\n  one:\n    n: -2\n"
	c, err := load(t, file, []string{"PLINTH_LIMITS_LOW=30"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.Bind(c, "limits", limits{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`environment variable PLINTH_LIMITS_LOW: limits.low: "30" is above high, 13`,
		`app.yaml:3: limits.high: "13" is below low`,
		`app.yaml:6: limits.sub.a.n: "-1" is below zero`,
		`app.yaml:10: limits.one.n: "-2" is below zero`,
		`validate configuration: limits: thirteen`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error\n%v\ndoes not say\n%s", err, want)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 5 {
		t.Errorf("%d errors, want 5:\n%v", n, err)
	}
	if e, ok := errors.AsType[*config.Error](err); !ok || e.Key == "" || e.Source.Kind == "" {
		t.Errorf("no *config.Error in %v", err)
	}
	if c, err = load(t, "", nil, nil); err != nil {
		t.Fatal(err)
	}
	// The defaults are validated, too.
	if _, err := config.Bind(c, "limits", limits{Low: 2}); err == nil || !strings.Contains(err.Error(), `default: limits.low: "2" is above high`) {
		t.Errorf("defaults: %v", err)
	}
	if _, err := config.Bind(c, "", limits{High: 13}); err == nil || err.Error() != "validate configuration: thirteen" {
		t.Errorf("at the root: %v", err)
	}
}

// TestUnsupported: a struct that cannot be bound is an error, not a panic.
func TestUnsupported(t *testing.T) {
	type odd struct {
		Numbers map[int]string `yaml:"numbers"`
		Pointer *int           `yaml:"pointer"`
		Any     any            `yaml:"any"`
		Func    func()         `yaml:"func"`
		Lists   [][]string     `yaml:"lists"`
		Structs []sub          `yaml:"structs"`
		Maps    map[string]map[string]string
		Deep    map[string]map[string]string `yaml:"deep"`
		Time    time.Time                    `yaml:"time"`
	}
	c, err := load(t, "o:\n  numbers: x\n  pointer: 1\n  any: x\n  func: x\n  lists: [a]\n  structs: [a]\n  time: 2026-11-21T10:00:00Z\n  deep:\n    a:\n      b: c\n", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.Bind(c, "o", odd{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, key := range []string{"numbers", "pointer", "any", "func", "lists", "structs"} {
		if !strings.Contains(err.Error(), "o."+key+": ") {
			t.Errorf("error does not name %s:\n%v", key, err)
		}
	}
	if strings.Contains(err.Error(), "o.time") || strings.Contains(err.Error(), "o.deep") {
		t.Errorf("time and maps of maps do work:\n%v", err)
	}
	if _, err := config.Bind(c, "o", 5); err == nil || !strings.Contains(err.Error(), "int is not a struct") {
		t.Errorf("not a struct: %v", err)
	}
}

func TestDescribe(t *testing.T) {
	keys := config.Describe(defaults())
	byPath := map[string]config.Key{}
	for _, k := range keys {
		byPath[k.Path] = k
	}
	for path, want := range map[string]config.Key{
		"app.name":                              {Path: "app.name", Env: "PLINTH_APP_NAME", Default: "default", Doc: "what it is called"},
		"app.wait":                              {Path: "app.wait", Env: "PLINTH_APP_WAIT", Default: "1s"},
		"app.names":                             {Path: "app.names", Env: "PLINTH_APP_NAMES", Default: "d"},
		"app.level":                             {Path: "app.level", Env: "PLINTH_APP_LEVEL", Default: "none"},
		"timeout":                               {Path: "timeout", Env: "PLINTH_TIMEOUT", Default: "0s"},
		"static.<name>":                         {Path: "static.<name>"},
		"clients.<name>.retry.max_attempts":     {Path: "clients.<name>.retry.max_attempts"},
		"clients.<name>.methods.<name>.timeout": {Path: "clients.<name>.methods.<name>.timeout"},
	} {
		if byPath[path] != want {
			t.Errorf("%s: %+v, want %+v", path, byPath[path], want)
		}
	}
	for _, k := range keys {
		if strings.Contains(k.Path, "hidden") || strings.Contains(k.Path, "gnored") || strings.HasSuffix(k.Path, ".") {
			t.Errorf("%s is described", k.Path)
		}
	}
}

// TestConcurrent binds, reads and reports side by side.
func TestConcurrent(t *testing.T) {
	c, err := load(t, "app:\n  name: x\n", []string{"PLINTH_APP_COUNT=3"}, []string{"app.on=true"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if e, err := config.Bind(c, "", defaults()); err != nil || e.App.Count != 3 || !e.App.On {
				t.Errorf("%+v, %v", e, err)
			}
			_ = c.Entries()
			if err := c.Unused(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := c.Entries(); !slices.IsSortedFunc(got, func(a, b config.Entry) int { return strings.Compare(a.Key, b.Key) }) || len(got) < 10 {
		t.Errorf("entries %v", got)
	}
}

// startLimits are limits that a start holds to more.
type startLimits struct {
	Low  int            `yaml:"low"`
	High int            `hot:"true" yaml:"high"`
	Sub  map[string]int `hot:"true" yaml:"sub"`
	Name config.Secret  `yaml:"name"`
}

func (l *startLimits) Validate() error {
	var errs []error
	if l.High == 7 {
		errs = append(errs, config.Invalid("low", "is too low"), config.InvalidUnshown("high", "is seven"), config.Invalid("sub", "are no help"))
	}
	return errors.Join(errs...)
}

func (l *startLimits) ValidateStart(where func(string) config.Source) error {
	if l.Low == 0 && l.High > 10 {
		return config.Invalid("low", "is not set, beside high (%v) and sub (%v) and name (%v)", where("high"), where("sub"), where("name"))
	}
	return nil
}

// TestPlaces: a value that was not given has the place of what was given beside it, and
// one that must not be shown is not.
func TestPlaces(t *testing.T) {
	c, err := load(t, "limits:\n  sub:\n    b: 2\n    a: 1\n  high: 7\n", []string{"PLINTH_LIMITS_NAME=hunter2"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.Bind(c, "limits", startLimits{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`app.yaml:3: limits.low: "0" is too low`, `app.yaml:5: limits.high: is seven`, `app.yaml:3: limits.sub: are no help`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error\n%v\ndoes not say\n%s", err, want)
		}
	}
}

// TestValidateStart: what a start would refuse is refused while the process runs, too;
// hot values over cold ones that wait for a restart are not held to it.
func TestValidateStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.yaml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("limits: {high: 1}\n")
	c, err := config.Load(config.WithFile(path, true))
	if err != nil {
		t.Fatal(err)
	}
	v, err := config.Watch(c, "limits", startLimits{})
	if err != nil {
		t.Fatal(err)
	}
	put("limits:\n  high: 11\n")
	const want = `app.yaml:2: limits.low: "0" is not set, beside high (`
	if _, err := c.Reload(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "sub (default) and name (default)") {
		t.Errorf("at a reload: %v, want %s", err, want)
	}
	if got := v.Get().High; got != 1 {
		t.Errorf("high is %d", got)
	}
	put("limits: {high: 11, low: 1}\n")
	if _, err := c.Reload(); err != nil || v.Get().High != 11 || v.Get().Low != 0 {
		t.Errorf("%v, %+v", err, v.Get())
	}
}

// TestNothingBehindAKey: a key with nothing behind it is an error where the struct
// says so, once and with its place, and nowhere else.
func TestNothingBehindAKey(t *testing.T) {
	type part struct {
		Share float64           `empty:"false" yaml:"share"`
		With  map[string]string `empty:"false" yaml:"with"`
		Rest  string            `yaml:"rest"`
	}
	type whole struct {
		Part  part            `empty:"false" yaml:"part"`
		Parts map[string]part `yaml:"parts"`
	}
	for text, want := range map[string]string{
		"part:\n":                             "plinth.yaml:1: part: has nothing behind it; give it a value, or leave the key out",
		"part:\n  share:\n":                   "plinth.yaml:2: part.share: has nothing behind it; give it a value, or leave the key out",
		"part:\n  with: {}\n":                 "plinth.yaml:2: part.with: has nothing behind it; give it a value, or leave the key out",
		"parts:\n  a:\n    share: ~\n":        "plinth.yaml:3: parts.a.share: has nothing behind it; give it a value, or leave the key out",
		"part: {share: 0, with: {a: b}}\n":    "",
		"part: {rest: }\nparts: {a: , b: }":   "",
		"parts:\n":                            "",
		"parts: {a: {rest: }, b: {share: 1}}": "",
	} {
		path := filepath.Join(t.TempDir(), "plinth.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(config.WithFile(path, true))
		if err != nil {
			t.Fatal(err)
		}
		_, err = config.Bind(c, "", whole{})
		if (err == nil) != (want == "") || err != nil && !strings.HasSuffix(err.Error(), want) || err != nil && strings.Count(err.Error(), "nothing behind") != 1 {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
