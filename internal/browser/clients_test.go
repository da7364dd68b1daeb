package browser

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"plinth.internal/registry"
)

// rows are the table's lines as they are seen, of all tables with this caption.
func rows(tb *tab, caption string) []string {
	tb.t.Helper()
	return eval[[]string](tb, `[...document.querySelectorAll("table")]
		.filter(t => t.caption && t.caption.innerText == "`+caption+`")
		.flatMap(t => [...t.tBodies[0].rows]).map(r => r.innerText)`)
}

// why is the sentence about one instance.
func why(tb *tab, id string) string {
	tb.t.Helper()
	return eval[string](tb, `(() => {
		const row = [...document.querySelectorAll("tbody tr")].find(r => r.cells[0].innerText.startsWith("`+id+`\n"))
		return row ? row.querySelector(".why").innerText : "no line has it"
	})()`)
}

// row is the line about one instance.
func row(tb *tab, id string) string {
	tb.t.Helper()
	all := rows(tb, "Instances")
	i := slices.IndexFunc(all, func(r string) bool { return strings.Contains(r, id) })
	if i < 0 {
		tb.t.Fatalf("no line has %s: %q", id, all)
	}
	return all[i]
}

// TestClientsPage: the page names the right reason for each instance, on a desk
// and on a phone, by day and by night.
func TestClientsPage(t *testing.T) {
	tb := open(t)
	c := start(t)
	tb.run(chromedp.Navigate(c.admin + "/debug/")) // the browser has started before the young instance
	c.fleet()

	// From the index a person finds the page.
	tb.run(chromedp.Click(`a[href="/debug/clients"]`), chromedp.WaitVisible("h2"))
	if got := eval[string](tb, "location.pathname"); got != "/debug/clients" {
		t.Fatalf("the link leads to %s", got)
	}
	want := map[string]string{
		"billing-well":   `called: nothing is against it, it has \d+ % of the calls`,
		"billing-sick":   `not called: ejected for failures in a row; one call may try it in \S+`,
		"billing-leaves": `not called: it is draining, which it or an operator wants, and others can be called`,
		"billing-lost": `called: nothing is against it, it has \d+ % of the calls; ` +
			`quarantined: the registry lost it \S+ ago without a word, and it is called for as long as it answers`,
		"billing-young": `warming up: it has just started and takes \d+ % of its share`,
	}
	for _, s := range []struct {
		name          string
		width, height int64
		scheme        string
	}{
		{"desk-light", 1280, 800, "light"},
		{"desk-dark", 1280, 800, "dark"},
		{"phone-light", 390, 844, "light"},
		{"phone-dark", 390, 844, "dark"},
	} {
		t.Run(s.name, func(t *testing.T) {
			tb.screen(s.width, s.height, s.scheme)
			tb.run(chromedp.Reload())
			for id, sentence := range want {
				if got := why(tb, id); !regexp.MustCompile("^" + sentence + "$").MatchString(got) {
					t.Errorf("%s: %q, want %q", id, got, sentence)
				}
			}
			if got := len(rows(tb, "Instances")); got != len(want) {
				t.Errorf("there are %d lines, want %d", got, len(want))
			}
			if got := eval[string](tb, `document.querySelector("h2 + p").innerText`); !strings.HasPrefix(got,
				"3 of 5 instances take calls over grpc (1 ejected, 1 draining, 1 lost by the registry)") {
				t.Errorf("of the service it says %q", got)
			}
			legible(t, tb, s.scheme)
			tb.keep(s.name)
		})
	}
}

// legible holds what makes a page readable: nothing of it has to be pushed aside,
// no sentence is cut off, and the text stands out from what is behind it.
func legible(t *testing.T, tb *tab, scheme string) {
	t.Helper()
	if over := eval[float64](tb, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
		t.Errorf("the page is %v px wider than the window", over)
	}
	if over := eval[float64](tb, `Math.max(...[...document.querySelectorAll(".wide")].map(e => e.scrollWidth - e.clientWidth))`); over > 0 {
		t.Errorf("a table is %v px wider than the window", over)
	}
	cut := eval[[]string](tb, `[...document.querySelectorAll("h1,h2,p,.why,code")].filter(e => {
		const r = e.getBoundingClientRect()
		return r.left < 0 || e.matches("h1,h2,p,.why") && r.right > innerWidth || e.matches(".why") && r.width < 200
	}).map(e => e.innerText)`)
	if len(cut) > 0 {
		t.Errorf("cut off are %q", cut)
	}
	if !eval[bool](tb, `matchMedia("(prefers-color-scheme: `+scheme+`)").matches`) {
		t.Fatalf("the browser does not prefer %s", scheme)
	}
	// The colours of text and canvas, which follow the scheme only if the page
	// says that it can have both.
	text, back := eval[float64](tb, brightness("CanvasText")), eval[float64](tb, brightness("Canvas"))
	if dark := back < text; dark != (scheme == "dark") || max(text, back)-min(text, back) < 0.6 {
		t.Errorf("in %s the text has the brightness %v on %v", scheme, text, back)
	}
	if small := eval[float64](tb, `Math.min(...[...document.querySelectorAll("td,th,p,code,small")].map(e => parseFloat(getComputedStyle(e).fontSize)))`); small < 12 {
		t.Errorf("there is text of %v px", small)
	}
}

// brightness is an expression for how bright a colour is on this page, from 0 to 1.
func brightness(colour string) string {
	return `(() => {
		const e = document.body.appendChild(document.createElement("i"))
		e.style.color = "` + colour + `"
		const rgb = getComputedStyle(e).color.match(/[\d.]+/g).slice(0, 3).map(Number)
		e.remove()
		return (rgb[0] + rgb[1] + rgb[2]) / 765
	})()`
}

// TestClientsPageReloads: a page that is loaded again is as things are now, at the
// place where it was.
func TestClientsPageReloads(t *testing.T) {
	tb := open(t)
	c := start(t)
	well, _ := c.instance(registry.Instance{ID: "billing-one", Started: time.Now().Add(-time.Hour)})
	tb.run(chromedp.Navigate(c.admin + "/debug/clients"))
	if got := eval[string](tb, "document.body.innerText"); !strings.Contains(got, "no list of its instances is known yet") &&
		!strings.Contains(got, "nobody can be called") {
		t.Errorf("before there is an instance the page says %q", got)
	}
	c.announce(well)
	c.callUntil("it is called", func() bool { return c.explained("billing-one").Calls > 0 })
	before := eval[string](tb, "document.querySelector('p').innerText")
	tb.run(chromedp.Reload())
	if after := eval[string](tb, "document.querySelector('p').innerText"); after == before {
		t.Errorf("after a reload it is still %q", after)
	}
	if got := row(tb, "billing-one"); !strings.Contains(got, "called: nothing is against it, it has 100 %") {
		t.Errorf("the line is %q", got)
	}
	young, _ := c.instance(registry.Instance{ID: "billing-two", Started: time.Now()})
	c.announce(young)
	c.callUntil("both are called", func() bool { return c.explained("billing-two").Calls > 0 })
	tb.run(chromedp.Navigate(c.admin+"/debug/clients#billing"), chromedp.Reload())
	if got := rows(tb, "Instances"); len(got) != 2 {
		t.Errorf("after another reload the lines are %q", got)
	}
	if got := eval[string](tb, "location.hash"); got != "#billing" {
		t.Errorf("the page is at %q", got)
	}
}

// TestClientsPageShowsTextAsText: whatever others have written is no part of the
// page.
func TestClientsPageShowsTextAsText(t *testing.T) {
	const script, image = `<script>alert(1)</script>`, `<img src="x" onerror="alert(1)">`
	tb := open(t)
	c := start(t)
	old := time.Now().Add(-time.Hour)
	hostile, _ := c.instance(registry.Instance{
		ID: "billing-hostile", Zone: script, Version: `"><script>alert(2)</script>`, Started: old,
		Metadata: map[string]string{script: image},
	})
	c.announce(hostile)
	// An ID like that no registry takes, and one that a program has written past
	// them is left out.
	named := hostile
	named.ID = "billing-x"
	value, err := registry.Encode(named)
	if err != nil {
		t.Fatal(err)
	}
	c.store.Put("billing", script, []byte(strings.Replace(string(value), "billing-x", `\u003cscript\u003ealert(1)\u003c/script\u003e`, 1)))
	c.callUntil("it is called", func() bool { return c.explained("billing-hostile").Calls > 0 })
	for _, path := range []string{"/debug/clients", "/debug/clients?" + url.QueryEscape(script), "/debug/config", "/health", "/info"} {
		tb.run(chromedp.Navigate(c.admin+path), chromedp.WaitReady("body"))
		if n := eval[int](tb, "document.querySelectorAll('script,img,iframe').length"); n != 0 {
			t.Errorf("%s has %d elements that it should not have", path, n)
		}
	}
	tb.run(chromedp.Navigate(c.admin + "/debug/clients"))
	if got := row(tb, "billing-hostile"); !strings.Contains(got, script) || !strings.Contains(got, `"><script>alert(2)</script>`) {
		t.Errorf("the line is %q", got)
	}
	if all := rows(tb, "Instances"); len(all) != 1 {
		t.Errorf("the lines are %q", all)
	}
}
