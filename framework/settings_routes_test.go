package framework

import (
	"os"
	"strings"
	"testing"

	"plinth.internal/client/route"
)

// TestRouteSettings: the rules of a service are its own and those of all services,
// in their order, the same for all methods.
func TestRouteSettings(t *testing.T) {
	s, err := bindSettings(t, `
clients:
  default:
    routes:
      by-user:
        order: 2
        match: {percent: 2.5, by: x-user}
        to: {metadata: {track: canary}}
      replaced:
        to: {version: "1"}
  billing:
    routes:
      canary:
        match: {header: {x-canary: "1", X-Group: "*"}, baggage: {canary: "yes"}, percent: 0}
        to: {version: "1.4.0", metadata: {track: canary, color: blue}}
        fallback: fail
      replaced:
        order: 1
        to: {version: "2"}
    methods:
      Charge: {timeout: 1s}
`)
	if err != nil {
		t.Fatal(err)
	}
	byUser := route.Rule{Name: "by-user", Percent: new(2.5), By: "x-user", Metadata: map[string]string{"track": "canary"}}
	canary := route.Rule{
		Name: "canary", Headers: map[string]string{"x-canary": "1", "X-Group": "*"}, Baggage: map[string]string{"canary": "yes"}, Percent: new(0.0),
		Version: "1.4.0", Metadata: map[string]string{"track": "canary", "color": "blue"}, Fallback: route.FallbackFail,
	}
	table := newClientTable(s.Clients)
	for _, tc := range []struct {
		service, method string
		want            []route.Rule
	}{
		{"billing", "", []route.Rule{canary, {Name: "replaced", Version: "2"}, byUser}},
		{"billing", "Charge", []route.Rule{canary, {Name: "replaced", Version: "2"}, byUser}},
		{"users", "Get", []route.Rule{{Name: "replaced", Version: "1"}, byUser}},
	} {
		want, err := route.New(tc.want...)
		if err != nil {
			t.Fatal(err)
		}
		if got := table.settings(tc.service, tc.method).Routes; !got.Equal(want) {
			t.Errorf("%s/%s has %+v, want %+v", tc.service, tc.method, got, want)
		}
	}
	if table.settings("billing", "Charge").Routes != table.settings("billing", "").Routes {
		t.Error("a method has a table of its own")
	}
	if newClientTable(nil).settings("users", "").Routes != nil {
		t.Error("there are rules where none are set")
	}
}

// TestRouteSettingsErrors: what is wrong with a rule is named with its place, key
// and value.
func TestRouteSettingsErrors(t *testing.T) {
	const to = `, to: {version: "2"}`
	for text, want := range map[string]string{
		`c: {match: {percent: 101}` + to + `}`:             `plinth.yaml:3: clients.a.routes.c.match.percent: "101" is not usable: want a number from 0 to 100`,
		`c: {match: {percent: -1}` + to + `}`:              `routes.c.match.percent: "-1" is not usable`,
		`c: {match: {percent: NaN}` + to + `}`:             `routes.c.match.percent: "NaN" is not usable`,
		`c: {match: {percent: some}` + to + `}`:            `routes.c.match.percent: "some" is not usable`,
		`c: {match: {header: {"x y": "1"}}` + to + `}`:     `plinth.yaml:3: clients.a.routes.c.match.header.x y: "1" must be for a header`,
		`c: {match: {header: {x: ""}}` + to + `}`:          `plinth.yaml:3: clients.a.routes.c.match.header.x: must not be empty`,
		`c: {match: {baggage: {x: ""}}` + to + `}`:         `routes.c.match.baggage.x: must not be empty`,
		`c: {match: {by: x-user}` + to + `}`:               `plinth.yaml:3: clients.a.routes.c.match.by: "x-user" must stand beside a percentage`,
		`c: {match: {by: "x user", percent: 1}` + to + `}`: `routes.c.match.by: "x user" must be the name of a header`,
		`c: {match: {percent: }` + to + `}`:                `plinth.yaml:3: clients.a.routes.c.match.percent: has nothing behind it; give it a value, or leave the key out`,
		`c: {match: {header: , percent: 5}` + to + `}`:     `plinth.yaml:3: clients.a.routes.c.match.header: has nothing behind it`,
		`c: {match: {header: {x: }}` + to + `}`:            `plinth.yaml:3: clients.a.routes.c.match.header.x: must not be empty`,
		`c: {match: {baggage: {}}` + to + `}`:              `plinth.yaml:3: clients.a.routes.c.match.baggage: has nothing behind it`,
		`c: {match: {by: ~, percent: 5}` + to + `}`:        `plinth.yaml:3: clients.a.routes.c.match.by: has nothing behind it`,
		`c: {match: ` + to + `}`:                           `plinth.yaml:3: clients.a.routes.c.match: has nothing behind it`,
		`c: {to: {version: , metadata: {k: v}}}`:           `plinth.yaml:3: clients.a.routes.c.to.version: has nothing behind it`,
		`c: {to: {version: "2", metadata: }}`:              `plinth.yaml:3: clients.a.routes.c.to.metadata: has nothing behind it`,
		`c: {match: {percent: 5}}`:                         `clients.a.routes.c.to.version: must not be empty where there is no metadata either`,
		`c: {fallback: never` + to + `}`:                   `plinth.yaml:3: clients.a.routes.c.fallback: "never" must be any or fail`,
		`c: {order: first` + to + `}`:                      `plinth.yaml:3: clients.a.routes.c.order: "first" is not a whole number`,
		`c: {matches: {percent: 5}` + to + `}`:             `clients.a.routes.c.matches.percent: is not a known key`,
		`"v1.1": {match: {percent: 5}` + to + `}`:          `clients.a.routes.v1.1.match.percent: is not a known key, did you mean clients.a.routes.v1.match.percent? (a dot ends a part of a key: no name in it may have one)`,
		`ordinary: {to: {version: "2"}}`:                   `plinth.yaml:3: clients.a.routes.ordinary.to.version: "2" the name "ordinary" must be another one`,
		`ordinary: {to: {metadata: {k: v}}}`:               `routes.ordinary.to.metadata.k: "v" the name "ordinary" must be another one`,
	} {
		_, err := bindSettings(t, "clients:\n  a:\n    routes: {"+text+"}\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v, want\n%s", text, err, want)
		}
	}
}

// TestCanariesDocument: the example in the manual is one that is taken.
func TestCanariesDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Canaries\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := strings.Split(section, "```")
	parsed := 0
	for _, block := range blocks {
		example, isYAML := strings.CutPrefix(block, "yaml\n")
		if !isYAML {
			continue
		}
		s, err := bindSettings(t, example)
		if err != nil {
			t.Errorf("%v in\n%s", err, example)
		}
		if newClientTable(s.Clients).settings("billing", "").Routes.Len() > 0 {
			parsed++
		}
	}
	if !found || parsed == 0 {
		t.Errorf("docs/operations.md has no section Canaries with an example that has rules")
	}
}
