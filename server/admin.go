package server

import (
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"plinth.internal/middleware"
)

// Who may read /debug/ on the admin listener.
const (
	DebugOff      = "off"
	DebugLoopback = "loopback"
	DebugAll      = "all"
)

// newAdmin builds the admin listener: the configured pages, the profiler, an
// index, and gRPC health and reflection over HTTP/2 without TLS.
func (s *Server) newAdmin() (*http.Server, error) {
	mux := http.NewServeMux()
	pages := map[string]http.Handler{
		"/debug/pprof/":        http.HandlerFunc(pprof.Index),
		"/debug/pprof/cmdline": http.HandlerFunc(pprof.Cmdline),
		"/debug/pprof/profile": http.HandlerFunc(pprof.Profile),
		"/debug/pprof/symbol":  http.HandlerFunc(pprof.Symbol),
		"/debug/pprof/trace":   http.HandlerFunc(pprof.Trace),
	}
	maps.Copy(pages, s.cfg.Admin)
	listed := []string{"/debug/pprof/"}
	for pattern := range s.cfg.Admin {
		if _, path, ok := strings.Cut(pattern, " "); ok {
			pattern = path
		}
		if !slices.Contains(listed, pattern) {
			listed = append(listed, pattern)
		}
	}
	slices.Sort(listed)
	pages["/debug/{$}"] = s.indexPage(listed)
	pages["/{$}"] = http.RedirectHandler("/debug/", http.StatusFound)
	guard, err := debugGuard(s.cfg.Debug)
	if err != nil {
		return nil, err
	}
	for pattern, h := range pages {
		_, path, ok := strings.Cut(pattern, " ")
		if !ok {
			path = pattern
		}
		if strings.HasPrefix(path, "/debug/") {
			h = guard(h)
		}
		if err := tryHandle(mux, pattern, h); err != nil {
			return nil, fmt.Errorf("build admin listener: %w", err)
		}
	}

	healthpb.RegisterHealthServer(s.adminGRPC, s.cfg.Health.GRPC())
	of := reflection.ServerOptions{Services: s.grpc}
	reflectionv1.RegisterServerReflectionServer(s.adminGRPC, reflection.NewServerV1(of))
	reflectionv1alpha.RegisterServerReflectionServer(s.adminGRPC, reflection.NewServer(of))
	guardedGRPC := guard(s.adminGRPC)
	limited := s.web.guard(func(w http.ResponseWriter, r *http.Request) error {
		mux.ServeHTTP(w, r)
		return nil
	})
	return newHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
				s.adminGRPC.ServeHTTP(w, r)
			} else {
				guardedGRPC.ServeHTTP(w, r)
			}
			return
		}
		if r.ProtoMajor == 1 {
			s.web.bound(w, r)
		}
		if err := limited(w, r); err != nil {
			middleware.WriteHTTPError(w, err)
		}
	})), nil
}

// debugGuard lets those through that may read /debug/.
func debugGuard(who string) (func(http.Handler) http.Handler, error) {
	var allowed func(*http.Request) bool
	switch who {
	case DebugOff:
		allowed = func(*http.Request) bool { return false }
	case DebugLoopback, "":
		allowed = fromLoopback
	case DebugAll:
		allowed = func(*http.Request) bool { return true }
	default:
		return nil, fmt.Errorf("build admin listener: debug %q is none of off, loopback, all", who)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !allowed(r) {
				http.Error(w, "not for this address: server.admin.debug decides who may read /debug/ (off, loopback, all)", http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r)
		})
	}, nil
}

func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr == "bufconn" // a test's listener in memory
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// View serves data as JSON to programs and as a page to browsers.
func View(title string, data func(*http.Request) any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteView(w, r, http.StatusOK, title, data(r))
	})
}

// WriteView answers with data as JSON, or as a page to a client that prefers
// HTML.
func WriteView(w http.ResponseWriter, r *http.Request, status int, title string, data any) {
	body, err := json.MarshalIndent(data, "", "  ")
	if err != nil {
		http.Error(w, fmt.Sprintf("encode %s: %v", title, err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(append(body, '\n')) // the client is gone if this errs
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = page.Execute(w, pageData{Title: title, Body: string(body)})
}

// aboutProfiler is what the index says of the one page that is always there.
const aboutProfiler = "Where time, memory and goroutines go: the Go profiler."

func (s *Server) indexPage(paths []string) http.Handler {
	index := indexData{Service: s.cfg.Service, Pages: paths, About: map[string]string{"/debug/pprof/": aboutProfiler}}
	maps.Copy(index.About, s.cfg.About)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := index
		if s.cfg.Status != nil {
			now.Status = s.cfg.Status()
		}
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			WriteView(w, r, http.StatusOK, now.Service, now)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, pageData{Title: now.Service, Index: &now})
	})
}

// indexData is what /debug/ answers.
type indexData struct {
	Service string            `json:"service"`
	Status  string            `json:"status,omitempty"`
	Pages   []string          `json:"pages"`
	About   map[string]string `json:"about"`
}

type pageData struct {
	Title string
	Index *indexData
	Body  string
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>{{.Title}}</title>
<style>
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}
pre{overflow:auto;padding:1rem;border:1px solid #8886;border-radius:.5rem;font:13px/1.45 ui-monospace,monospace}
nav{font-size:.9rem}
li{margin:.3rem 0}
</style></head><body>
<nav><a href="/debug/">all pages</a></nav>
<h1>{{.Title}}</h1>
{{with .Index}}{{with .Status}}<p>{{.}}</p>
{{end}}<ul>{{$about := .About}}{{range .Pages}}<li><a href="{{.}}">{{.}}</a>{{with index $about .}}<br>{{.}}{{end}}</li>
{{end}}</ul>{{end}}
{{with .Body}}<pre>{{.}}</pre>{{end}}
</body></html>
`))
