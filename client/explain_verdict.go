package client

import (
	"fmt"
	"strings"
)

// verdict is whether an instance gets calls. The sentences about it, about its
// service and about its routes are all made of it, so that they agree.
type verdict uint8

const (
	verdictTakes      verdict = iota
	verdictLastResort         // because nobody better can be called
	verdictHeld               // back by the breaker
	verdictEjected
	verdictDrains
	verdictAway // not reached, or not serving
	verdictOutside
	verdictGone
)

// called tells whether the instance gets calls.
func (v verdict) called() bool { return v == verdictTakes || v == verdictLastResort }

// judge decides about an instance, once it is known who else can be called.
func (f *fleetExplained) judge(e *InstanceExplained) verdict {
	v := f.fit(e)
	if v.called() && f.held {
		return verdictHeld
	}
	return v
}

// fit decides with no regard to what is done about the service as a whole.
func (f *fleetExplained) fit(e *InstanceExplained) verdict {
	c := &e.Connection
	drains := e.State == StateDraining
	switch {
	case e.State == StateGone:
		return verdictGone
	case e.State == StateOutside:
		return verdictOutside
	case drains && f.spared(e.Protocol):
		return verdictDrains
	case drains && f.up > 0 && c.State == connectionReady: // whatever its health
		return verdictLastResort
	case c.unusable() && f.wanting == 0 && (c.Health == healthNotServing || c.Health == healthSilent || c.Failures > 0):
		return verdictLastResort
	case c.unusable():
		return verdictAway
	case e.Ejection != nil && e.Ejection.KeptOut:
		return verdictEjected
	case drains:
		return verdictLastResort
	}
	return verdictTakes
}

// spared tells whether those that drain get no calls. Over gRPC that takes
// somebody who can be called; elsewhere, where nothing is known of connections
// before there is a call, somebody who does not drain.
func (f *fleetExplained) spared(protocol string) bool {
	return f.up > 0 && (protocol != "grpc" || f.wanting > 0)
}

// whyProtocol is the sentence about who takes the calls over one protocol.
func (e *ServiceExplained) whyProtocol(p ProtocolExplained) string {
	total, lost, calls, failures, tooMany := 0, 0, 0, 0, 0
	var judged [verdictGone + 1]int
	var last []*InstanceExplained
	for i := range e.Instances {
		inst := &e.Instances[i]
		if inst.Protocol != p.Protocol {
			continue
		}
		judged[inst.verdict]++
		if inst.verdict == verdictGone {
			continue
		}
		total++
		calls, failures, tooMany = calls+inst.Calls+inst.Refused, failures+inst.Failures, tooMany+inst.Refused
		if !inst.LostAt.IsZero() {
			lost++
		}
		if inst.verdict == verdictLastResort {
			last = append(last, inst)
		}
	}
	if total == 0 {
		return fmt.Sprintf("calls over %s still run on %d that left the list", p.Protocol, judged[verdictGone])
	}
	text := fmt.Sprintf("%d of %d instances take calls over %s", judged[verdictTakes]+len(last), total, p.Protocol)
	if len(last) > 0 {
		text += " as a last resort: " + whyLast(last)
	}
	var but []string
	for _, c := range []struct {
		n    int
		what string
	}{
		{judged[verdictHeld], "held back by the breaker"}, {judged[verdictEjected], "ejected"}, {judged[verdictDrains], "draining"}, {judged[verdictAway], "not reached or not serving"},
		{lost, "lost by the registry"}, {judged[verdictOutside], "not in this client's subset"}, {judged[verdictGone], "gone while calls run on them"},
	} {
		if c.n > 0 {
			but = append(but, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if len(but) > 0 {
		text += " (" + strings.Join(but, ", ") + ")"
	}
	if p.Panic {
		text += "; so many are ejected that nobody is kept out for it"
	}
	sentences := []string{text}
	for _, s := range []string{failing(calls, failures, "over "+p.Protocol), refused(calls, tooMany, "over "+p.Protocol)} {
		if s != "" {
			sentences = append(sentences, s)
		}
	}
	for i := range p.Routes {
		sentences = append(sentences, p.Routes[i].Why)
	}
	return strings.Join(sentences, "; ")
}

// whyLast says why nobody better can be called.
func whyLast(last []*InstanceExplained) string {
	drain, ill := 0, 0
	for _, e := range last {
		switch {
		case e.Connection.Health == healthNotServing:
			ill++
		case e.State == StateDraining:
			drain++
		}
	}
	switch len(last) {
	case drain:
		return "all that can be reached drain"
	case ill:
		return "none says that it is serving"
	case ill + drain:
		return "all that can be reached drain or say that they are not serving"
	}
	return "none could be reached lately"
}
