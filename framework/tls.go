package framework

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"plinth.internal/client"
	"plinth.internal/server"
)

// certificatesCheck is the name of the files for TLS among the checks of /health.
const certificatesCheck = "certificates"

// kindMemory is a registry of this process alone.
const kindMemory = "memory"

// protect holds that nobody takes calls from other machines without TLS by
// default: where others find the instance somebody must have said so, elsewhere
// it is told.
func (a *App) protect(endpoints map[string]string) error {
	open := reachable(endpoints)
	s := &a.settings.Server.TLS
	switch {
	case len(open) == 0 || s.server(nil) != nil:
		return nil
	case s.Required:
		return errUnprotected(open, "server.tls.required is set")
	case !s.unsaid():
		return nil
	case a.sharedRegistry():
		return errUnprotected(open, "the registry "+a.registry.Kind()+" leads other machines there")
	}
	a.emit(Unprotected{Listeners: open})
	return nil
}

// reachable are the listeners for calls that other machines can connect to.
func reachable(endpoints map[string]string) []string {
	var out []string
	for _, name := range []string{server.GRPC, server.HTTP} {
		if fromOutside(endpoints[name]) {
			out = append(out, name+" "+endpoints[name])
		}
	}
	return out
}

// fromOutside reports whether other machines can connect to a bound address; ""
// is that of a listener that is off.
func fromOutside(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false // it is off, or no address of TCP
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && !ip.IsLoopback()
}

// sharedRegistry reports whether other machines find this instance.
func (a *App) sharedRegistry() bool {
	switch a.registry.Kind() {
	case kindStatic, kindMemory:
		return false
	case kindEtcd:
		return a.opts.registry != nil || !allLoopback(a.settings.Registry.Endpoints)
	}
	return true
}

// tlsHealth is the files for TLS as one of the checks: it is down while some of
// them hold what cannot be used. ok is false where there are none.
func (a *App) tlsHealth() (check CheckHealth, ok bool) {
	var errs []error
	if s, has := a.server.TLSStatus(); has {
		ok = true
		if s.Err != nil {
			errs = append(errs, errors.New("server.tls: "+s.Err.Error()))
		}
	}
	for _, s := range a.client.TLSStatus() {
		ok = true
		if s.Err != nil {
			errs = append(errs, errors.New("clients."+strings.Join(s.Services, ", ")+".tls: "+s.Err.Error()))
		}
	}
	check = CheckHealth{Name: certificatesCheck, Status: HealthOK, CheckedAt: stamp(time.Now())}
	if err := errors.Join(errs...); err != nil {
		check.Status, check.Error = HealthDown, err.Error()
	}
	return check, ok
}

// measureTLS brings the gauges of certificates up to date.
func (a *App) measureTLS() {
	if s, ok := a.server.TLSStatus(); ok {
		a.metrics.SetCertificate("server", s.NotAfter)
	}
	var first time.Time // of those that calls are made with
	for _, s := range a.client.TLSStatus() {
		if !s.NotAfter.IsZero() && (first.IsZero() || s.NotAfter.Before(first)) {
			first = s.NotAfter
		}
	}
	if !first.IsZero() {
		a.metrics.SetCertificate("client", first)
	}
}

// countServer keeps the metrics that come from the server's events.
func (a *App) countServer(e server.TLSEvent) {
	switch e := e.(type) {
	case server.TLSReloaded:
		a.metrics.CountTLSReload("server", reloadApplied)
	case server.TLSRejected:
		a.metrics.CountTLSReload("server", reloadRejected)
	case server.TLSRefused:
		a.metrics.CountTLSRefusals(e.Reason, e.Times)
	case server.TLSPlain:
		a.metrics.CountTLSPlain(e.Listener, e.Times)
	}
}

func describeServer(e server.TLSEvent) string {
	switch e := e.(type) {
	case server.TLSReloaded:
		return "certificates of the server changed"
	case server.TLSRejected:
		if !e.Kept {
			return "certificates of the server cannot be used, callers refuse them"
		}
		return "certificates of the server rejected, the last good ones stay in use"
	case server.TLSRefused:
		return "caller refused"
	case server.TLSPlain:
		return "caller served without TLS"
	}
	return ""
}

func levelOfServer(e server.TLSEvent) zapcore.Level {
	switch e.(type) {
	case server.TLSReloaded, server.TLSPlain: // the latter is what the mode says
		return zapcore.InfoLevel
	}
	return zapcore.WarnLevel
}

func fieldsOfServer(e server.TLSEvent) []zap.Field {
	switch e := e.(type) {
	case server.TLSReloaded:
		return []zap.Field{zap.String("files", e.Files), zap.Time("not_after", e.NotAfter)}
	case server.TLSRejected:
		return []zap.Field{zap.Error(e.Err)}
	case server.TLSRefused:
		return []zap.Field{
			zap.String("listener", e.Listener), zap.String("remote", e.Remote), zap.String("reason", e.Reason), zap.Int("times", e.Times), zap.Error(e.Err),
		}
	case server.TLSPlain:
		return []zap.Field{zap.String("listener", e.Listener), zap.String("remote", e.Remote), zap.Int("times", e.Times)}
	}
	return nil
}

// fieldsOfClientTLS are those of the client's events about files.
func fieldsOfClientTLS(e client.Event) []zap.Field {
	switch e := e.(type) {
	case client.TLSReloaded:
		return []zap.Field{zap.Strings("targets", e.Services), zap.String("files", e.Files), zap.Time("not_after", e.NotAfter)}
	case client.TLSRejected:
		return []zap.Field{zap.Strings("targets", e.Services), zap.String("files", e.Files), zap.Error(e.Err)}
	}
	return nil
}

// isReserved reports names of checks that /health has by itself.
func isReserved(name string) bool {
	return slices.Contains([]string{configCheck, certificatesCheck, faultsCheck}, name)
}
