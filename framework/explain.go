package framework

import (
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"plinth.internal/client"
	"plinth.internal/server"
)

// ClientsDocument is what /debug/clients answers to a program.
type ClientsDocument struct {
	// Service and Instance are those that ask: two instances may know different
	// things of the services that they call.
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Time     string `json:"time"`
	// Clients are the services that are called, sorted by name.
	Clients []client.ServiceExplained `json:"clients"`
}

// Clients is what /debug/clients answers at this moment: what is known of each
// service that is called, and why calls go where they go. It waits for nothing.
func (a *App) Clients() ClientsDocument {
	return ClientsDocument{
		Service: a.name, Instance: a.instance.ID, Time: stamp(time.Now()), Clients: a.client.Explain(),
	}
}

// clientsPage is JSON for a program and tables for a person.
func (a *App) clientsPage() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		doc := a.Clients()
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			server.WriteView(w, r, http.StatusOK, "clients", doc)
			return
		}
		var page strings.Builder
		if err := clientsTemplate.Execute(&page, viewClients(doc)); err != nil {
			http.Error(w, fmt.Sprintf("show clients: %v", err), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page.String())) // the client is gone if this errs
	})
}

// explainFuncs make numbers readable.
func explainFuncs() template.FuncMap {
	return template.FuncMap{
		"percent": func(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) },
		"fine":    func(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) },
		"ms":      func(x float64) string { return trimmed(x) + " ms" },
		"milli":   func(s float64) float64 { return 1000 * s },
		"number":  trimmed,
		"times":   func(x float64) string { return fmt.Sprintf("%.1fx", x) },
		"clock":   func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
	}
}

// trimmed has three digits where they matter.
func trimmed(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 1:
		return fmt.Sprintf("%.1f", x)
	case x == 0:
		return "0"
	}
	return fmt.Sprintf("%.2f", x)
}

var clientsTemplate = template.Must(template.New("clients").Funcs(explainFuncs()).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>clients of {{.Service}}</title>
<style>
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}
body{max-width:90rem;margin:2rem auto;padding:0 1rem}
nav,footer{font-size:.9rem}
section{margin:2rem 0}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.87rem;margin:.7rem 0}
caption{text-align:left;font-weight:600}
th,td{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;border-bottom:1px solid #8884;white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
thead th{white-space:normal;vertical-align:bottom}
td.why{white-space:normal;min-width:15rem;max-width:40rem}
small{font-size:1em;opacity:.75}
code{font:.95em ui-monospace,monospace;overflow-wrap:anywhere}
.one td{white-space:normal}
@media(max-width:45rem){
.cards thead{display:none}
.cards,.cards caption,.cards tbody{display:block}
.cards tr{display:grid;grid-template-columns:1fr 1fr;column-gap:1.5rem;padding:.5rem 0;border-bottom:1px solid #8886}
.cards td,.cards td.n{display:flex;gap:.5rem;justify-content:space-between;white-space:normal;overflow-wrap:anywhere;text-align:right;padding:.1rem 0;border:0}
.cards td::before{content:attr(data-is);flex:none;opacity:.75}
.cards td.why,.cards td:first-child{display:block;grid-column:span 2;text-align:left;min-width:0;max-width:none}
.cards td.why::before,.cards td:first-child::before{content:none}
.cards td:empty{display:none}
.one tr{display:block;padding:.3rem 0;border-bottom:1px solid #8884}
.one th,.one td{display:block;padding:0;border:0}
}
</style></head><body>
<nav><a href="/debug/">all pages</a></nav>
<h1>Why did a call go there?</h1>
<p>What instance <code>{{.Instance}}</code> of <code>{{.Service}}</code> knows of the services that it calls, at {{.Time}}.</p>
{{range .Views}}<section id="{{.Service}}">
<h2>{{.Service}}</h2>
<p>{{.Why}}.</p>
{{range .Protocols}}{{if .Routes}}<div class="wide"><table class="cards"><caption>Routes over {{.Protocol}}</caption><thead><tr>
<th>route</th><th>why</th><th>which calls</th><th>to</th><th>else</th><th class="n">calls</th><th class="n">share</th><th class="n">instances</th><th class="n">callable</th><th class="n">fell back</th><th class="n">failed</th>
</tr></thead><tbody>
{{range .Routes}}<tr><td data-is="route">{{.Name}}</td><td class="why" data-is="why">{{.Why}}</td><td data-is="which calls">{{.Match}}</td><td data-is="to">{{.To}}</td><td data-is="else">{{.Fallback}}</td><td class="n" data-is="calls">{{.Calls}}</td><td class="n" data-is="share">{{fine .Share}}</td>
<td class="n" data-is="instances">{{.Instances}}</td><td class="n" data-is="callable">{{.Callable}}</td><td class="n" data-is="fell back">{{.FellBack}}</td><td class="n" data-is="failed">{{.Failed}}</td></tr>
{{end}}</tbody></table></div>{{end}}{{end}}
{{if .Rows}}<div class="wide"><table class="cards"><caption>Instances</caption><thead><tr>
<th>instance</th><th>why</th><th>state</th><th>connection</th><th class="n">share (10 s)</th><th class="n">calls (10 s)</th><th class="n">failed</th>
<th class="n">in flight</th><th class="n">latency</th><th class="n">cost</th><th>zone</th><th>version</th>
</tr></thead><tbody>
{{range .Rows}}<tr>
<td data-is="instance"><code>{{.ID}}</code><br><small><code>{{.Protocol}} {{.Addr}}</code></small></td><td class="why" data-is="why">{{.Why}}</td><td data-is="state">{{.State}}{{with .Ejection}}{{if .Now}}, ejected{{end}}{{end}}</td>
<td data-is="connection">{{.Connection.State}}{{with .Connection.Health}}, {{.}}{{end}}</td>
<td class="n" data-is="share (10 s)">{{percent .Share}}</td><td class="n" data-is="calls (10 s)">{{.Picks}}</td><td class="n" data-is="failed">{{.Failures}}{{with .Refused}}, {{.}} refused{{end}}{{with .Ignored}}, {{.}} given up{{end}}</td><td class="n" data-is="in flight">{{.InFlight}}</td>
<td class="n" data-is="latency">{{ms .Cost.LatencyMS}}</td><td class="n" data-is="cost">{{if .Cost.Relative}}{{times .Cost.Relative}}{{else}}-{{end}}</td>
<td data-is="zone">{{.Zone}}</td><td data-is="version">{{.Version}}</td>
</tr>
{{end}}</tbody></table></div>
{{with .More}}<p>{{.}} more instances are well, or no worse than these.</p>
{{end}}{{with .Outside}}<p>{{.}} more instances are not in this client's subset and are not called.</p>
{{end}}<div class="wide"><table class="cards"><caption>What a call costs</caption><thead><tr>
<th>instance</th><th class="n">cost</th><th class="n">of the median</th><th class="n">latency</th><th class="n">oldest call</th><th class="n">load</th><th class="n">load reported</th>
<th class="n">fails more than others</th><th class="n">zone factor</th><th class="n">weight</th><th class="n">warm</th>
</tr></thead><tbody>
{{range .Rows}}<tr><td data-is="instance"><code>{{.ID}}</code></td><td class="n" data-is="cost">{{ms (milli .Cost.Seconds)}}</td><td class="n" data-is="of the median">{{if .Cost.Relative}}{{times .Cost.Relative}}{{else}}-{{end}}</td>
<td class="n" data-is="latency">{{ms .Cost.LatencyMS}}</td><td class="n" data-is="oldest call">{{ms .Cost.OldestMS}}</td><td class="n" data-is="load">{{number .Cost.Load}}</td><td class="n" data-is="load reported">{{if .Cost.Reporting}}{{number .Cost.ReportAgeS}} s ago{{else}}never{{end}}</td>
<td class="n" data-is="fails more than others">{{percent .Cost.FailureShare}}</td><td class="n" data-is="zone factor">{{number .Cost.ZoneFactor}}</td><td class="n" data-is="weight">{{.Weight}}</td><td class="n" data-is="warm">{{percent .Warm}}</td></tr>
{{end}}</tbody></table></div>{{end}}
<table class="one"><caption>The service</caption><tbody>
{{with .Target}}<tr><th>over grpc</th><td>calls go to <code>{{.}}</code>, whose own balancer picks the instance</td></tr>
{{end}}<tr><th>list</th><td>{{with .Registry}}{{.Kind}}, from {{if .Source}}{{.Source}}{{else}}nowhere yet{{end}}, revision {{.Revision}}, confirmed {{number .AgeS}} s ago{{with .Error}}; {{.}}{{end}}{{end}}</td></tr>
{{range .Protocols}}<tr><th>fleet over {{.Protocol}}</th><td>{{.Instances}} in the list, {{.Ejected}} ejected{{if .Panic}}, nobody kept out{{end}}; mean latency {{ms .LatencyMS}}, {{percent .FailureShare}} fail, {{.InFlight}} in flight from here; bounce limit {{if .BounceLimit}}{{.BounceLimit}}{{else}}none{{end}}</td></tr>
{{end}}{{range .Breakers}}<tr><th>breaker{{with .Method}} of {{.}}{{end}}</th><td>{{.Policy}}, {{.Phase}}: {{.Why}}</td></tr>
{{end}}<tr><th>retry budget</th><td>{{number .RetryTokens}} of {{number .RetryTokensMax}} tokens</td></tr>
{{range .Settings}}<tr><th>settings{{with .Method}} of {{.}}{{end}}</th><td>balancer {{.Balancer}}, breaker {{.Breaker}}{{if .OwnBreaker}} of its own{{end}}, {{.Attempts}} attempts, timeout {{if .TimeoutMS}}{{ms .TimeoutMS}}{{else}}none{{end}}{{if .AttemptTimeoutMS}} ({{ms .AttemptTimeoutMS}} an attempt){{end}}, of streams {{if .StreamTimeoutMS}}{{ms .StreamTimeoutMS}}{{else}}none{{end}}, hedging {{if .Hedge}}on{{else}}off{{end}}, ejection {{if .Ejection}}on{{else}}off{{end}}</td></tr>
{{end}}{{if .Totals}}<tr><th>events so far</th><td>{{range $kind, $n := .Totals}}{{$n}} {{$kind}} &nbsp; {{end}}</td></tr>{{end}}
</tbody></table>
{{if .Events}}<div class="wide"><table class="cards"><caption>The last events of each kind</caption><thead><tr><th>time (UTC)</th><th>what</th><th>method</th><th>instance</th><th>reason</th><th>more</th></tr></thead><tbody>
{{range .Events}}<tr><td class="n" data-is="time (UTC)">{{clock .At}}</td><td data-is="what">{{.Kind}}</td><td data-is="method">{{.Method}}</td><td data-is="instance"><code>{{.Instance}}</code></td><td data-is="reason">{{.Reason}}</td><td class="why" data-is="more">{{.Detail}}</td></tr>
{{end}}</tbody></table></div>{{end}}
</section>{{else}}<p>It has called no service yet.</p>{{end}}
<footer>A program gets the same, and more, as JSON.</footer>
</body></html>
`))
