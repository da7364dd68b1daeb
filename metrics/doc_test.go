package metrics

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var update = flag.Bool("update", false, "write the table of docs/metrics.md")

const docFile = "../docs/metrics.md"

// row is a metric's row in the document.
var (
	row  = regexp.MustCompile("^\\| `(plinth_\\w+)` \\|")
	desc = regexp.MustCompile(`fqName: "([^"]*)", help: "([^"]*)", .*variableLabels: \{([^}]*)\}`)
)

// TestDocument holds docs/metrics.md against what the code exports, both ways.
// Run it with -update to write the rows.
func TestDocument(t *testing.T) {
	want := map[string]string{} // rows by metric
	var order []string
	var document func(prometheus.Collector)
	document = func(c prometheus.Collector) {
		kind := ""
		switch c := c.(type) {
		case *Calls:
			c.each(document)
			return
		case *prometheus.CounterVec:
			kind = "counter"
		case *prometheus.GaugeVec:
			kind = "gauge"
		case *prometheus.HistogramVec:
			kind = "histogram"
		default:
			t.Fatalf("a %T cannot be documented", c)
		}
		ch := make(chan *prometheus.Desc, 10)
		c.Describe(ch)
		close(ch)
		for d := range ch {
			m := desc.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("cannot read %v", d)
			}
			labels := ""
			if m[3] != "" {
				labels = "`" + strings.ReplaceAll(m[3], ",", "`, `") + "`"
			}
			want[m[1]] = fmt.Sprintf("| `%s` | %s | %s | %s |", m[1], kind, labels, m[2])
			order = append(order, m[1])
		}
	}
	m := New()
	for _, c := range m.own() {
		document(c)
	}

	text, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if *update {
		at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "|---") })
		if at < 0 {
			t.Fatalf("%s has no table", docFile)
		}
		lines = slices.DeleteFunc(lines, row.MatchString)
		for i, name := range order {
			lines = slices.Insert(lines, at+1+i, want[name])
		}
		if err := os.WriteFile(docFile, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	seen := map[string]bool{}
	for i, line := range lines {
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		switch name := m[1]; {
		case want[name] == "":
			t.Errorf("docs/metrics.md:%d: %s is not exported", i+1, name)
		case seen[name]:
			t.Errorf("docs/metrics.md:%d: %s stands there twice", i+1, name)
		case want[name] != line:
			t.Errorf("docs/metrics.md:%d: got\n%s\nwant\n%s", i+1, line, want[name])
		default:
			seen[name] = true
		}
	}
	for _, name := range order {
		if !seen[name] {
			t.Errorf("docs/metrics.md does not list %s; write it with go test ./metrics -run TestDocument -update", name)
		}
	}
}

// TestOwnIsComplete: what is exported under the framework's prefix is what own
// lists, so that the document cannot miss any.
func TestOwnIsComplete(t *testing.T) {
	m := New()
	listed := map[string]bool{}
	all := make(chan *prometheus.Desc, 1000)
	for _, c := range m.own() {
		c.Describe(all)
	}
	n := len(all)
	for range n {
		listed[(<-all).String()] = true
	}
	m.registry.Describe(all)
	close(all)
	for d := range all {
		if strings.Contains(d.String(), `fqName: "plinth_`) && !listed[d.String()] {
			t.Errorf("%v is registered, but own does not list it", d)
		}
	}
	if len(listed) < 10 {
		t.Errorf("own lists %d", len(listed))
	}
}
