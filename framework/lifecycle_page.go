package framework

import (
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"plinth.internal/server"
)

// lifecyclePage is JSON for a program and tables for a person.
func (a *App) lifecyclePage() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		doc := a.Lifecycle()
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			server.WriteView(w, r, http.StatusOK, "lifecycle", doc)
			return
		}
		var page strings.Builder
		if err := lifecycleTemplate.Execute(&page, doc); err != nil {
			http.Error(w, fmt.Sprintf("show the lifecycle: %v", err), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page.String())) // the client is gone if this errs
	})
}

var lifecycleTemplate = template.Must(template.New("lifecycle").Funcs(explainFuncs()).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>lifecycle of {{.Service}}</title>
<style>
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}
body{max-width:75rem;margin:2rem auto;padding:0 1rem}
nav,footer{font-size:.9rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.87rem;margin:1.2rem 0}
caption{text-align:left;font-weight:600}
th,td{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8884;white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.why{white-space:pre-wrap;overflow-wrap:anywhere;min-width:12rem;max-width:40rem}
code{font:.95em ui-monospace,monospace;overflow-wrap:anywhere}
</style></head><body>
<nav><a href="/debug/">all pages</a></nav>
<h1>How does it start and stop?</h1>
<p>Instance <code>{{.Instance}}</code> of <code>{{.Service}}</code> is {{.State}}, at {{.Time}}.</p>
{{with .Drain}}<p>Calls that came although callers had been told to go elsewhere:
{{with .AfterMark}}{{.Calls}} after the draining mark, the last one {{ms .ForMS}} after it{{end}}{{with .AfterWithdrawal}};
{{.Calls}} after the withdrawal, the last one {{ms .ForMS}} after it{{end}}.</p>
{{end}}<div class="wide"><table><caption>Phases</caption><thead><tr><th>stage</th><th>phase</th><th>began</th><th class="n">took</th><th>error</th></tr></thead><tbody>
{{range .Phases}}<tr><td>{{.Stage}}</td><td>{{.Name}}</td><td>{{.Began}}</td><td class="n">{{if .Running}}so far {{end}}{{ms .TookMS}}</td><td class="why">{{.Error}}</td></tr>
{{end}}</tbody></table></div>
{{if .Dumps}}<div class="wide"><table><caption>Kept because the stop took too long</caption><thead><tr><th>phase</th><th>goroutines</th><th>trace</th><th>error</th></tr></thead><tbody>
{{range .Dumps}}<tr><td>{{.Phase}}</td><td><code>{{.Goroutines}}</code></td><td><code>{{.Trace}}</code></td><td class="why">{{.Error}}</td></tr>
{{end}}</tbody></table></div>
{{end}}{{if .Goroutines}}<div class="wide"><table><caption>Goroutines</caption><thead><tr><th>name</th><th>state</th><th>since</th><th>restart</th><th class="n">restarts</th><th>last error</th></tr></thead><tbody>
{{range .Goroutines}}<tr><td>{{.Name}}</td><td>{{.State}}</td><td>{{.Since}}</td><td>{{.Restart}}</td><td class="n">{{.Restarts}}</td><td class="why">{{.Error}}</td></tr>
{{end}}</tbody></table></div>
{{end}}{{if .Jobs}}<div class="wide"><table><caption>Jobs</caption><thead><tr><th>name</th><th class="n">every</th><th>runs here</th><th>since</th><th>next run</th><th>last run</th><th class="n">took</th><th>outcome</th><th>runs so far</th><th>error</th></tr></thead><tbody>
{{range .Jobs}}<tr><td>{{.Name}}</td><td class="n">{{if .EveryS}}{{number .EveryS}} s{{else}}-{{end}}</td><td>{{if .Leading}}yes, fence {{.Fence}}{{else}}no{{end}}</td><td>{{.Since}}</td><td>{{.Next}}</td>
{{if .Last}}<td>{{.Last.Began}}</td><td class="n">{{if .Last.Running}}so far {{end}}{{ms .Last.TookMS}}</td><td>{{.Last.Outcome}}</td>{{else}}<td></td><td></td><td></td>{{end}}
<td>{{range $outcome, $n := .Runs}}{{$n}} {{$outcome}} &nbsp; {{end}}</td><td class="why">{{.Error}}{{with .Last}}{{.Error}}{{end}}</td></tr>
{{end}}</tbody></table></div>
{{end}}<footer>A program gets the same as JSON.</footer>
</body></html>
`))
