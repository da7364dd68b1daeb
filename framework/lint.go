package framework

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"plinth.internal/config"
	"plinth.internal/health"
	"plinth.internal/server"
)

// The severities of a [LintFinding].
const (
	// LintError is what lets others do harm, or what somebody relies on and is not
	// so.
	LintError = "error"
	// LintWarning is what an outage will be longer or wider for.
	LintWarning = "warning"
	// LintNote is what should be there on purpose.
	LintNote = "note"
)

// LintDocument is what /debug/lint answers: what a person who looks after this
// process should change.
type LintDocument struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	// Errors, Warnings and Notes are how many there are of each severity.
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Notes    int `json:"notes"`
	// Findings are the errors first.
	Findings []LintFinding `json:"findings"`
}

// LintFinding is one thing to change in a [LintDocument].
type LintFinding struct {
	// Rule is the name of the rule that found it.
	Rule     string `json:"rule"`
	Severity string `json:"severity"`
	// What is how it is, Why what is wrong with that, Fix what to do.
	What string `json:"what"`
	Why  string `json:"why"`
	Fix  string `json:"fix"`
	// Key is the key of the configuration that decides it, "" where the code does;
	// Value is its value and Source where that came from.
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// lintFacts are what the rules look at.
type lintFacts struct {
	settings   settings // as they are now
	entries    []config.Entry
	status     config.Status
	endpoints  map[string]string
	shared     bool // other machines read the registry
	policy     bool // the code declares who may call
	snapshots  bool // the lists of a registry of its own are kept on disk, or there is none
	kubernetes bool
	logLevel   string
	checks     []health.Result
	unserved   []MethodUnserved
	rate       float64 // calls a second
	dumps      error   // why no dump could be written
	certs      []lintCertificate
}

// lintCertificate is a certificate in use.
type lintCertificate struct {
	key               string // of the file
	notAfter, renewBy time.Time
}

// Lint is what /debug/lint answers at this moment. It tries whether the directory
// for dumps can be written to, for a second at most.
func (a *App) Lint() LintDocument {
	doc := LintDocument{Service: a.name, Instance: a.instance.ID, Findings: a.lintFacts().find()}
	for _, f := range doc.Findings {
		switch f.Severity {
		case LintError:
			doc.Errors++
		case LintWarning:
			doc.Warnings++
		default:
			doc.Notes++
		}
	}
	return doc
}

func (a *App) lintFacts() *lintFacts {
	l := &lintFacts{
		settings: a.current(), entries: a.cfg.Entries(), status: a.cfg.Status(), endpoints: a.Endpoints(),
		shared: a.sharedRegistry(), policy: a.opts.auth != nil, snapshots: !a.ownRegistry || a.registry.Kind() == kindStatic || a.snapshots != "",
		kubernetes: slices.ContainsFunc(a.opts.environ, func(e string) bool { return strings.HasPrefix(e, "KUBERNETES_SERVICE_HOST=") }),
		logLevel:   a.log.Level(), checks: a.health.Report().Results, dumps: a.tryDumps(),
	}
	l.unserved = a.unservedRules()
	if s, ok := a.server.TLSStatus(); ok {
		l.certs = append(l.certs, lintCertificate{"server.tls.cert_file", s.NotAfter, s.RenewBy})
	}
	for _, s := range a.client.TLSStatus() {
		l.certs = append(l.certs, lintCertificate{l.given(s.Services[0], keyCertFile), s.NotAfter, s.RenewBy})
	}
	for _, c := range a.limiter.Stats().Callers {
		l.rate += c.Rate
	}
	return l
}

// tryDumps writes a file to where dumps go, and removes it.
func (a *App) tryDumps() error {
	if a.box.dir == "" {
		return nil
	}
	return bounded(context.Background(), time.Second, func(context.Context) error { return tryDir(a.box.dir) })
}

// tryDir tries whether files can be made in a directory. One that is not there
// would be made, so that the nearest one above it is tried.
func tryDir(dir string) error {
	for {
		_, err := os.Stat(dir)
		if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
			dir = parent
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	f, err := os.CreateTemp(dir, ".lint-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// find runs all rules.
func (l *lintFacts) find() []LintFinding {
	out := []LintFinding{}
	for _, rule := range []struct {
		name string
		find func() []LintFinding
	}{
		{"server-tls-off", l.serverTLS},
		{"server-tls-permissive", l.permissiveTLS},
		{"client-tls-off", l.clientTLS},
		{"certificate-expires", l.certificateExpires},
		{"debug-open", l.debugOpen},
		{"auth-off", l.authOff},
		{"faults-allowed", l.faultsAllowed},
		{"method-unserved", l.methodsUnserved},
		{"limit-off", l.limitOff},
		{"client-no-deadline", l.noDeadline},
		{"hedge-in-vain", l.hedgeInVain},
		{"no-critical-check", l.noCriticalCheck},
		{"snapshots-off", l.snapshotsOff},
		{"registry-required", l.registryRequired},
		{"drain-grace", l.drainGrace},
		{"dump-dir", l.dumpDir},
		{"restart-needed", l.restartNeeded},
		{"keys-ignored", l.keysIgnored},
		{"log-debug", l.logDebug},
		{"trace-all", l.traceAll},
	} {
		for _, f := range rule.find() {
			f.Rule = rule.name
			out = append(out, f)
		}
	}
	severities := []string{LintError, LintWarning, LintNote}
	slices.SortStableFunc(out, func(x, y LintFinding) int {
		return cmp.Compare(slices.Index(severities, x.Severity), slices.Index(severities, y.Severity))
	})
	return out
}

// at adds where the value of a key came from.
func (l *lintFacts) at(key string, f LintFinding) []LintFinding {
	f.Key = key
	for _, e := range l.entries {
		if e.Key == key {
			f.Value, f.Source = e.Value, e.Source.String()
		}
	}
	return []LintFinding{f}
}

// given is the key of a level of the section clients that gives a value: that of a
// service, else that of all.
func (l *lintFacts) given(service, key string) string {
	own := "clients." + service + "." + key
	if slices.ContainsFunc(l.entries, func(e config.Entry) bool { return e.Key == own && e.Value != "" }) {
		return own
	}
	return "clients." + defaultClient + "." + key
}

// open are the listeners for calls that take calls from other machines without
// TLS.
func (l *lintFacts) open() []string {
	if l.settings.Server.TLS.server(nil) != nil {
		return nil
	}
	return reachable(l.endpoints)
}

// adminOpen reports whether other machines reach the admin port.
func (l *lintFacts) adminOpen() bool { return fromOutside(l.endpoints[server.Admin]) }
