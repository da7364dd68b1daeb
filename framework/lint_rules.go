package framework

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"plinth.internal/client"
	"plinth.internal/server"
)

const (
	// kubernetesGrace is terminationGracePeriodSeconds unless a pod sets it.
	kubernetesGrace = 30 * time.Second
	// muchTraced is the calls a second from which on every one need not be traced.
	muchTraced = 500
)

func (l *lintFacts) serverTLS() []LintFinding {
	open := l.open()
	if len(open) == 0 {
		return nil
	}
	return l.at(keyTLSMode, LintFinding{
		Severity: LintWarning, What: "calls are taken from other machines without TLS at " + strings.Join(open, ", "),
		Why: "whoever is on the way reads and changes them, and nobody knows who calls",
		Fix: "give server.tls.cert_file and key_file, unless a mesh or the network does it",
	})
}

func (l *lintFacts) permissiveTLS() []LintFinding {
	if l.settings.Server.TLS.Mode != tlsPermissive {
		return nil
	}
	return l.at(keyTLSMode, LintFinding{
		Severity: LintNote, What: "callers without TLS are served as well",
		Why: "it is meant for the way to TLS only", Fix: "set server.tls.mode to tls once all callers use it",
	})
}

func (l *lintFacts) clientTLS() []LintFinding {
	var out []LintFinding
	for _, e := range l.entries {
		if l.shared && strings.HasPrefix(e.Key, "clients.") && strings.HasSuffix(e.Key, ".tls.mode") && e.Value == client.TLSInsecure {
			out = append(out, l.at(e.Key, LintFinding{
				Severity: LintWarning, What: "calls to other machines are made without TLS",
				Why: "whoever is on the way reads and changes them, and nobody knows who answers",
				Fix: "set it to tls or mtls, unless a mesh or the network does it",
			})...)
		}
	}
	return out
}

func (l *lintFacts) certificateExpires() []LintFinding {
	var out []LintFinding
	now := time.Now()
	for _, c := range l.certs {
		f := LintFinding{
			Severity: LintWarning, What: "the certificate expires at " + stamp(c.notAfter),
			Why: "whatever renews it should have done so by now, and nobody takes it once it has expired",
			Fix: "look why it was not renewed; new files are in use within a second",
		}
		switch {
		case c.notAfter.IsZero() || now.Before(c.renewBy):
			continue
		case now.After(c.notAfter):
			f.Severity, f.What = LintError, "the certificate has expired at "+stamp(c.notAfter)
			f.Why = "new connections with it are refused"
		}
		out = append(out, l.at(c.key, f)...)
	}
	return out
}

func (l *lintFacts) debugOpen() []LintFinding {
	if l.settings.Server.Admin.Debug != server.DebugAll || !l.adminOpen() {
		return nil
	}
	return l.at("server.admin.debug", LintFinding{
		Severity: LintError, What: "other machines may read /debug/ at " + l.endpoints[server.Admin],
		Why: "it shows the configuration and the memory of the process, changes the log level, and profiles at the process' cost",
		Fix: "set it to loopback, or server.admin.addr to an address of loopback",
	})
}

func (l *lintFacts) authOff() []LintFinding {
	s := &l.settings.Server.Auth
	where := "the code"
	switch {
	case len(s.Policy) > 0:
		where = keyAuthPolicy
	case !l.policy:
		return nil
	}
	if s.Mode == authOn || s.Mode == authUnsaid && l.policy {
		return nil
	}
	return l.at("server.auth.mode", LintFinding{
		Severity: LintError, What: "nobody is checked, although " + where + " says who may call",
		Why: "the rules look as if they were in use", Fix: "set it to on, or take the rules away",
	})
}

func (l *lintFacts) faultsAllowed() []LintFinding {
	s := &l.settings.Server.Fault
	if !s.Allow {
		return nil
	}
	out := l.at("server.fault.allow", LintFinding{
		Severity: LintWarning, What: "calls can be made to fail on purpose",
		Why: "whoever can write the configuration can stop the service", Fix: "set it to false and start again when the game day is over",
	})
	if s.Headers {
		out = append(out, l.at("server.fault.headers", LintFinding{
			Severity: LintError, What: "every caller can have its calls delayed, hung and cut by a header",
			Why: "hung calls cost memory, and a cut takes the other calls of the connection along", Fix: "set it to false",
		})...)
	}
	return out
}

func (l *lintFacts) methodsUnserved() []LintFinding {
	var out []LintFinding
	for _, u := range l.unserved {
		fix := "take the rule away, or name a method that is served"
		if u.Nearest != "" {
			fix = "did you mean " + u.Nearest + "?"
		}
		out = append(out, l.at(u.Key, LintFinding{
			Severity: LintWarning, What: "a rule is for no call", Why: u.Method + " is no method or route of this service", Fix: fix,
		})...)
	}
	return out
}

func (l *lintFacts) limitOff() []LintFinding {
	s := &l.settings.Server.Limit
	if s.Enabled || s.Max > 0 || len(s.Rate) > 0 {
		return nil
	}
	return l.at("server.limit.enabled", LintFinding{
		Severity: LintWarning, What: "nothing limits the calls in flight",
		Why: "under overload all calls become too late, instead of some being turned away", Fix: "set it to true, or give server.limit.max",
	})
}

func (l *lintFacts) noDeadline() []LintFinding {
	var out []LintFinding
	for _, e := range l.entries {
		if !strings.HasPrefix(e.Key, "clients.") || !strings.HasSuffix(e.Key, ".timeout") {
			continue
		}
		if d, err := time.ParseDuration(e.Value); err == nil && d < 0 {
			out = append(out, l.at(e.Key, LintFinding{
				Severity: LintWarning, What: "calls are made without a deadline, unless the caller has one",
				Why: "a server that hangs keeps them, and what waits for them, for ever", Fix: "give the longest time that an answer is of use",
			})...)
		}
	}
	return out
}

func (l *lintFacts) hedgeInVain() []LintFinding {
	var out []LintFinding
	t := newClientTable(l.settings.Clients)
	for _, k := range slices.SortedFunc(maps.Keys(t.resolved), clientKey.compare) {
		if s := t.resolved[k]; s.Hedge.Enabled && s.Retry.MaxAttempts == 1 {
			out = append(out, l.at(k.String()+".hedge.enabled", LintFinding{
				Severity: LintWarning, What: "hedging is on, and no call is hedged",
				Why: "a hedge is a second attempt, and retry.max_attempts allows for one", Fix: "set retry.max_attempts to 2 or more, or turn hedging off",
			})...)
		}
	}
	return out
}

func (l *lintFacts) noCriticalCheck() []LintFinding {
	var own []string
	for _, c := range l.checks {
		if c.Critical {
			return nil
		}
		// Those of other services should not decide, and those of one gRPC
		// service decide about that.
		if !c.Dependency && len(c.Services) == 0 && c.Name != keysCheck {
			own = append(own, c.Name)
		}
	}
	if len(own) == 0 {
		return nil
	}
	return []LintFinding{{
		Severity: LintNote, What: "no check decides whether the instance is ready: " + strings.Join(own, ", ") + " are not critical",
		Why: "it gets calls although what it cannot work without is down",
		Fix: "leave health.NotCritical() out for what every call needs, such as the database",
	}}
}

func (l *lintFacts) snapshotsOff() []LintFinding {
	if l.snapshots {
		return nil
	}
	return l.at("registry.snapshot_dir", LintFinding{
		Severity: LintWarning, What: "the lists of instances are not kept on disk",
		Why: "while the registry is down a process that starts finds nobody", Fix: "give a directory that outlives the process",
	})
}

func (l *lintFacts) registryRequired() []LintFinding {
	if !l.settings.Registry.Required {
		return nil
	}
	return l.at("registry.required", LintFinding{
		Severity: LintNote, What: "the start waits for the registry",
		Why: "while the registry is down no instance becomes ready, and a rollout or a crash takes capacity away",
		Fix: "leave it out, unless an instance that nobody finds must not be ready",
	})
}

func (l *lintFacts) drainGrace() []LintFinding {
	drain := l.settings.Server.Drain
	if whole := drain.Delay + drain.Timeout; l.kubernetes && whole > kubernetesGrace {
		return l.at("server.drain.timeout", LintFinding{
			Severity: LintNote, What: fmt.Sprintf("a stop may take %v and more: server.drain.delay and timeout, and 10s for each step behind them", whole),
			Why: fmt.Sprintf("Kubernetes kills a process %v after SIGTERM, unless the pod says otherwise", kubernetesGrace),
			Fix: fmt.Sprintf("see that terminationGracePeriodSeconds is %d at least, or shorten the timeout", int((whole + stopTimeout).Seconds())),
		})
	}
	return nil
}

func (l *lintFacts) dumpDir() []LintFinding {
	if l.dumps == nil {
		return nil
	}
	return l.at("server.drain.dump_dir", LintFinding{
		Severity: LintWarning, What: "no dump could be kept: " + l.dumps.Error(),
		Why: "nobody will know what a stop that takes too long has waited for", Fix: "give a directory that can be written to, or off",
	})
}

func (l *lintFacts) restartNeeded() []LintFinding {
	var out []LintFinding
	for _, key := range l.status.Restart {
		out = append(out, l.at(key, LintFinding{
			Severity: LintWarning, What: "the key has another value by now, which needs a restart",
			Why: "the process does not run with what is written down", Fix: "restart the instance, or take the change back",
		})...)
	}
	return out
}

func (l *lintFacts) keysIgnored() []LintFinding {
	var out []LintFinding
	for _, e := range l.status.Ignored {
		out = append(out, LintFinding{
			Severity: LintNote, What: "a key in the document of all services is of no use here", Key: e.Key, Source: e.Source.String(),
			Why: "it is misspelt, or another service's", Fix: "correct it, or move it into the document of the service that it is for",
		})
	}
	return out
}

func (l *lintFacts) logDebug() []LintFinding {
	if l.logLevel != "debug" {
		return nil
	}
	out := l.at("telemetry.log.level", LintFinding{
		Severity: LintNote, What: "the log has every detail", Why: "it costs time and disk with every call", Fix: "set it to info",
	})
	if l.settings.Telemetry.Log.Level != l.logLevel {
		out[0].Value, out[0].Source = l.logLevel, "/debug/log"
	}
	return out
}

func (l *lintFacts) traceAll() []LintFinding {
	t := l.settings.Telemetry.Trace
	if t.Endpoint == "" || t.Sample < 1 || l.rate < muchTraced {
		return nil
	}
	return l.at("telemetry.trace.sample", LintFinding{
		Severity: LintNote, What: fmt.Sprintf("every new trace is exported, at %.0f calls a second", l.rate),
		Why: "the exporter and what stores the spans have to keep up, and spans are lost where they do not", Fix: "set it to 0.1, or less",
	})
}
