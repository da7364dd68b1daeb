package client

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
)

func TestWhy(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ready := ConnectionExplained{State: connectionReady, Health: healthServing}
	others := &fleetExplained{policy: balancer.NameAdaptive, wanting: 3, compared: 3, up: 3, middle: CostExplained{LatencyMS: 10, Load: 1}}
	alone := &fleetExplained{policy: balancer.NameAdaptive}
	inPanic := &fleetExplained{policy: balancer.NameAdaptive, wanting: 3, list: outlier.Summary{Panic: true}}
	blind := &fleetExplained{policy: balancer.NameRoundRobin, wanting: 3}
	ejected := func(e EjectionExplained) *EjectionExplained { e.Now = true; return &e }
	tests := []struct {
		name string
		f    *fleetExplained
		e    InstanceExplained
		want string
	}{
		{"well", others, InstanceExplained{Calls: 5, Share: 0.25}, "called: nothing is against it, it has 25 % of the calls"},
		{"well, but", others, InstanceExplained{Calls: 5, Share: 0.25, Run: 2}, "called: nothing is against it, it has 25 % of the calls; its last 2 failed"},
		{"one in thirty fails", others, InstanceExplained{Calls: 30, Failures: 1, Share: 0.25}, "called: nothing is against it, it has 25 % of the calls"},
		{"some fail", others, InstanceExplained{Calls: 50, Failures: 6, Share: 0.25, Run: 2}, "called: 12 % of the calls fail here, it has 25 % of the calls; its last 2 failed"},
		{"all fail", others, InstanceExplained{Calls: 346, Failures: 346, Share: 1, Run: 346}, "called: every call fails here (346 of 346), it has 100 % of the calls"},
		{"warming up, and all fail", others, InstanceExplained{Calls: 3, Failures: 3, Warm: 0.4}, "warming up: it has just started and takes 40 % of its share; every call fails here (3 of 3)"},
		{"slow, and some fail", others, InstanceExplained{Calls: 10, Failures: 5, Cost: CostExplained{Relative: 9, LatencyMS: 90, Load: 1}}, "others are preferred: a call to it costs 9.0 times the median, as it takes 90ms where others take 10ms; 50 % of the calls fail here"},
		{"all refused", others, InstanceExplained{Picks: 20, Refused: 20, Share: 0.5}, "called: every call is refused here as one too many (20 of 20), it has 50 % of the calls"},
		{"some refused, some fail", others, InstanceExplained{Picks: 20, Calls: 15, Failures: 5, Refused: 5, Share: 0.5}, "called: 25 % of the calls fail here, 25 % of the calls are refused here as too many, it has 50 % of the calls"},
		{"given up", others, InstanceExplained{Picks: 50, Ignored: 50, Share: 0.5}, "called: 50 of its calls were given up by their callers or handed back, it has 50 % of the calls"},
		{"a call hangs, and nobody compares", blind, InstanceExplained{Picks: 10, InFlight: 10, Share: 0.5, Cost: CostExplained{OldestMS: 5000, LatencyMS: 5000}}, "called: a call has waited for it for 5s, and its calls in flight are 10, it has 50 % of the calls"},
		{"a call takes long, as all of them do", blind, InstanceExplained{Picks: 10, InFlight: 1, Share: 0.5, Cost: CostExplained{OldestMS: 5000, LatencyMS: 9000}}, "called: nothing is against it, it has 50 % of the calls"},
		{"streams", others, InstanceExplained{InFlight: 10}, "called: nothing is against it, it had no new call in the last ten seconds, and its calls in flight are 10"},
		{"not needed", others, InstanceExplained{}, "can be called: nothing is against it, and it had no call in the last ten seconds"},
		{"hardly dearer, and passed over", others, InstanceExplained{Cost: CostExplained{Relative: 1.3, LatencyMS: 10, Load: 1, FailureShare: 0.006}}, "others are preferred: a call to it costs 1.3 times the median, as 0.6 % more of its calls fail than of the others'"},
		{"hardly dearer, and called", others, InstanceExplained{Picks: 3, Share: 0.2, Cost: CostExplained{Relative: 1.3, LatencyMS: 10, Load: 1, FailureShare: 0.006}}, "called: nothing is against it, it has 20 % of the calls"},
		{"nothing known", others, InstanceExplained{}, "had no call in the last ten seconds: nothing is known against it, nor whether it can be reached"},
		{"slow", others, InstanceExplained{Cost: CostExplained{Relative: 9, LatencyMS: 90, Load: 1}}, "others are preferred: a call to it costs 9.0 times the median, as it takes 90ms where others take 10ms"},
		{"hangs", others, InstanceExplained{Cost: CostExplained{Relative: 200, LatencyMS: 2000, OldestMS: 2000}}, "others are preferred: a call to it costs 200.0 times the median, as a call has waited for it for 2s, where others take 10ms"},
		{"busy", others, InstanceExplained{Cost: CostExplained{Relative: 4, LatencyMS: 11, Load: 7}}, "others are preferred: a call to it costs 4.0 times the median, as it has 7.0 calls in flight where others have 1.0"},
		{"fails", others, InstanceExplained{Cost: CostExplained{Relative: 11, LatencyMS: 10, Load: 1, FailureShare: 0.2}}, "others are preferred: a call to it costs 11.0 times the median, as 20 % more of its calls fail than of the others'"},
		{"fails always", others, InstanceExplained{Cost: CostExplained{Relative: 51, LatencyMS: 10, Load: 1, FailureShare: 1}}, "others are preferred: a call to it costs 51.0 times the median, as 100 % more of its calls fail than of the others'"},
		{"light", others, InstanceExplained{Weight: 10, Cost: CostExplained{Relative: 10, LatencyMS: 10, Load: 1}}, "others are preferred: a call to it costs 10.0 times the median, as its weight is 10"},
		{"slow, and nobody compares", blind, InstanceExplained{Calls: 1, Share: 0.1, Cost: CostExplained{Relative: 9, LatencyMS: 90}}, "called: nothing is against it, it has 10 % of the calls"},
		{"warming up", others, InstanceExplained{Warm: 0.4}, "warming up: it has just started and takes 40 % of its share"},
		{"ejected", others, InstanceExplained{Ejection: ejected(EjectionExplained{KeptOut: true, InS: 3, Reason: "consecutive", Times: 1})}, "not called: ejected for failures in a row; one call may try it in 3s"},
		{"ejected again", others, InstanceExplained{Ejection: ejected(EjectionExplained{KeptOut: true, InS: 20, Reason: "trial", Times: 3})}, "not called: ejected because its trial call failed as well, 3 times running; one call may try it in 20s"},
		{"ejected for its share", others, InstanceExplained{Ejection: ejected(EjectionExplained{KeptOut: true, Reason: "share", Share: 0.6, Times: 1})}, "not called: ejected because 60 % of its calls failed, much more than the others'; one call may try it now"},
		{"ejected and dear", others, InstanceExplained{Cost: CostExplained{Relative: 12}, Ejection: ejected(EjectionExplained{KeptOut: true, Reason: "consecutive", Times: 1})}, "not called: ejected for failures in a row; one call may try it now, which can take long, as a call to it costs 12.0 times the median"},
		{"ejected and dear, and nobody compares", blind, InstanceExplained{Cost: CostExplained{Relative: 12}, Ejection: ejected(EjectionExplained{KeptOut: true, Reason: "consecutive", Times: 1})}, "not called: ejected for failures in a row; one call may try it now"},
		{"on trial", others, InstanceExplained{Ejection: ejected(EjectionExplained{KeptOut: true, Trial: true, Reason: "consecutive", Times: 1})}, "not called: ejected for failures in a row; one call is trying it now"},
		{"ejected in a panic", inPanic, InstanceExplained{Ejection: ejected(EjectionExplained{Reason: "consecutive", Times: 1})}, "called although ejected for failures in a row: so many are that nobody is kept out"},
		{"ejected and alone", alone, InstanceExplained{Ejection: ejected(EjectionExplained{Reason: "consecutive", Times: 1})}, "called although ejected for failures in a row: nobody else can be called"},
		{"was ejected", others, InstanceExplained{Calls: 1, Share: 1, Ejection: &EjectionExplained{Times: 1}}, "called: nothing is against it, it has 100 % of the calls"},
		{"draining", others, InstanceExplained{State: StateDraining}, "not called: it is draining, which it or an operator wants, and others can be called"},
		{"draining, alone", alone, InstanceExplained{State: StateDraining}, "called although it is draining: nobody else can be called"},
		{"draining over HTTP, the others cannot be reached", &fleetExplained{up: 1}, InstanceExplained{State: StateDraining, Protocol: "http"}, "not called: it is draining, which it or an operator wants, and others can be called"},
		{"refuses", others, InstanceExplained{Connection: ConnectionExplained{State: connectionFailed, Error: "connect to h:1: refused"}}, "not called: it cannot be reached (connect to h:1: refused)"},
		{"refused", others, InstanceExplained{Connection: ConnectionExplained{State: connectionFailed}}, "not called: it could not be reached, and is being tried again"},
		{"rests", others, InstanceExplained{Connection: ConnectionExplained{State: connectionFailed, Failures: 3, RetryS: 1.5}}, "not called while others can be: 3 connections in a row failed, the next one may be tried in 1.5s"},
		{"rested", others, InstanceExplained{Connection: ConnectionExplained{State: connectionFailed, Failures: 3}}, "not called while others can be: 3 connections in a row failed, the next one may be tried now"},
		{"connecting", others, InstanceExplained{Connection: ConnectionExplained{State: connectionConnecting}}, "not called yet: the connection is being made"},
		{"asked", others, InstanceExplained{Connection: ConnectionExplained{State: connectionReady, Health: healthAsked}}, "not called yet: it is connected, and has not answered its health check"},
		{"not serving", others, InstanceExplained{Connection: ConnectionExplained{State: connectionReady, Health: healthNotServing, Error: "x"}}, "not called: it says that it is not serving (x)"},
		{"not serving, alone", alone, InstanceExplained{Connection: ConnectionExplained{State: connectionReady, Health: healthNotServing}}, "called as a last resort: it says that it is not serving, and so do all that can be reached"},
		{"draining and not serving, the others are away", &fleetExplained{up: 1}, InstanceExplained{State: StateDraining, Protocol: "grpc", Connection: ConnectionExplained{State: connectionReady, Health: healthAsked}}, "called although it is draining: nobody else can be called"},
		{"not serving, and another one that drains as well is", &fleetExplained{wanting: 1}, InstanceExplained{State: StateDraining, Protocol: "grpc", Connection: ConnectionExplained{State: connectionReady, Health: healthNotServing, Error: "x"}}, "not called: it says that it is not serving (x)"},
		{"draining, alone, and fails", alone, InstanceExplained{State: StateDraining, Calls: 2, Failures: 1}, "called although it is draining: nobody else can be called; 50 % of the calls fail here"},
		{"rests, alone", alone, InstanceExplained{Protocol: "http", Connection: ConnectionExplained{State: connectionFailed, Failures: 3, RetryS: 1.5}}, "called as a last resort: 3 connections in a row failed, and nobody else can be called"},
		{"silent, alone", alone, InstanceExplained{Protocol: "http", Connection: ConnectionExplained{State: connectionReady, Health: healthSilent}}, "called as a last resort: a call to it timed out and it has not answered a ping since, and nobody else can be called"},
		{"quarantined", others, InstanceExplained{State: StateQuarantined, LostAt: now.Add(-12 * time.Second), Calls: 1, Share: 0.1}, "called: nothing is against it, it has 10 % of the calls; quarantined: the registry lost it 12s ago without a word, and it is called for as long as it answers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.e
			if e.Connection.State == "" && tt.name != "nothing known" {
				e.Connection = ready
			}
			if e.Warm == 0 {
				e.Warm = 1
			}
			if e.Weight == 0 {
				e.Weight = 100
			}
			if e.Picks == 0 {
				e.Picks = e.Calls
			}
			e.verdict = tt.f.judge(&e)
			if got := tt.f.why(now, &e); got != tt.want {
				t.Errorf("it says\n%q, want\n%q", got, tt.want)
			}
		})
	}
}

// last is a service whose instances are called because nobody better can be.
func last(instances ...InstanceExplained) ServiceExplained {
	e := ServiceExplained{
		RetryTokens: 20, Registry: ListExplained{Source: "registry"}, Protocols: []ProtocolExplained{{Protocol: "grpc"}}, Instances: instances,
	}
	for i := range instances {
		instances[i].Protocol, instances[i].verdict = "grpc", verdictLastResort
	}
	return e
}

func TestWhyOfAService(t *testing.T) {
	tests := []struct {
		name  string
		e     ServiceExplained
		known bool
		want  string
	}{
		{"new", ServiceExplained{RetryTokens: 20}, false, "no list of its instances is known yet"},
		{"never known", ServiceExplained{RetryTokens: 20, Registry: ListExplained{Error: "x"}}, false, "no list of its instances is known; the registry fails (x)"},
		{"a target", ServiceExplained{RetryTokens: 20, Target: "xds:///x"}, false, "over grpc the calls go to xds:///x, whose own balancer picks the instance"},
		{
			"a target, and called over HTTP as well", ServiceExplained{
				RetryTokens: 20, Target: "xds:///x", Registry: ListExplained{Source: "registry"},
				Protocols: []ProtocolExplained{{Protocol: "http"}}, Instances: []InstanceExplained{{Protocol: "http"}},
			}, true,
			"over grpc the calls go to xds:///x, whose own balancer picks the instance; 1 of 1 instances take calls over http",
		},
		{
			"all fail", ServiceExplained{
				RetryTokens: 20, Registry: ListExplained{Source: "registry"}, Protocols: []ProtocolExplained{{Protocol: "grpc"}},
				Instances: []InstanceExplained{{Protocol: "grpc", Calls: 3, Failures: 3}, {Protocol: "grpc", Calls: 4, Failures: 4}},
			}, true,
			"2 of 2 instances take calls over grpc; every call fails over grpc (7 of 7)",
		},
		{
			"not serving", last(InstanceExplained{Connection: ConnectionExplained{Health: healthNotServing}}, InstanceExplained{Connection: ConnectionExplained{Health: healthNotServing}}), true,
			"2 of 2 instances take calls over grpc as a last resort: none says that it is serving",
		},
		{"all drain", last(InstanceExplained{State: StateDraining}), true, "1 of 1 instances take calls over grpc as a last resort: all that can be reached drain"},
		{
			"one drains, another is not serving", last(InstanceExplained{State: StateDraining}, InstanceExplained{Connection: ConnectionExplained{Health: healthNotServing}}), true,
			"2 of 2 instances take calls over grpc as a last resort: all that can be reached drain or say that they are not serving",
		},
		{"not reached", last(InstanceExplained{Connection: ConnectionExplained{Failures: 1}}), true, "1 of 1 instances take calls over grpc as a last resort: none could be reached lately"},
		{"nobody", ServiceExplained{RetryTokens: 20, Registry: ListExplained{Source: "registry"}, nobody: []string{"nobody can be called over grpc: x"}}, true, "nobody can be called over grpc: x"},
		{"not called yet", ServiceExplained{RetryTokens: 20, Registry: ListExplained{Source: "registry"}}, true, "no call has been made yet"},
		{
			"fallback, in a panic, throttled, without retries", ServiceExplained{
				Registry:  ListExplained{Source: "fallback"},
				Protocols: []ProtocolExplained{{Protocol: "grpc", Panic: true}},
				Instances: []InstanceExplained{{Protocol: "grpc"}, {Protocol: "http"}},
				Breakers: []BreakerExplained{
					{Phase: "throttling", Why: "w1"}, {Method: "a.B/C", Phase: "open", Why: "w2"}, {Phase: "closed", Why: "w3"},
				},
			}, true,
			"1 of 1 instances take calls over grpc; so many are ejected that nobody is kept out for it; " +
				"the list is from fallback, as the registry has given none; " +
				"w1; w2; the retry budget is used up",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.e.why(tt.known); got != tt.want {
				t.Errorf("it says\n%q, want\n%q", got, tt.want)
			}
		})
	}
}

// TestCompareKeepsNobodyOutWhereAllAre: without an open gate any closed one is picked.
func TestCompareKeepsNobodyOutWhereAllAre(t *testing.T) {
	out := func() *EjectionExplained { return &EjectionExplained{Now: true, KeptOut: true} }
	f := &fleetExplained{instances: []InstanceExplained{
		{Ejection: out()}, {Connection: ConnectionExplained{State: connectionFailed}},
	}}
	f.compare()
	if f.instances[0].Ejection.KeptOut {
		t.Error("the only instance that can be reached is taken for kept out")
	}
	f = &fleetExplained{instances: []InstanceExplained{{Ejection: out()}, {Cost: CostExplained{Seconds: 1}}, {Cost: CostExplained{Seconds: 3}}}}
	f.compare()
	if !f.instances[0].Ejection.KeptOut || f.instances[2].Cost.Relative != 3 {
		t.Errorf("compared they are %+v", f.instances)
	}
	f = &fleetExplained{instances: []InstanceExplained{{Cost: CostExplained{Seconds: 12}, Ejection: out()}, {Cost: CostExplained{Seconds: 1}}}}
	f.compare()
	if f.instances[0].Cost.Relative != 12 || f.instances[1].Cost.Relative != 0 {
		t.Errorf("one that is out, and the only other one, are %+v", f.instances)
	}
}

// TestRecentEvents: many of one kind do not hide a rare one, and the memory does
// not grow.
func TestRecentEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recentEvents
		var told int
		tell := r.before(func(Event) { told++ })
		tell(InstanceEjected{Service: "a", Instance: "sick", Reason: "consecutive", Share: 0.06, Run: 9, For: 5 * time.Second, Times: 1, KeptOut: true})
		for i := range 1000 {
			<-time.After(time.Second)
			tell(CallRetried{Service: "a", Method: "Get", Instance: fmt.Sprint("i-", i), Reason: "unavailable", Err: errors.New(strings.Repeat("ü", 500))})
		}
		tell(CallBounced{Service: "b", Method: "Get", Instance: "x"})
		tell(ViewChanged{Service: "b"})
		if told != 1003 {
			t.Errorf("%d events were told on, want 1003", told)
		}
		totals, events := r.of("a")
		if totals["retried"] != 1000 || totals["ejected"] != 1 || len(events) != keptEvents+1 {
			t.Fatalf("kept are %v, %d events", totals, len(events))
		}
		if events[0].Instance != "i-999" || events[keptEvents-1].Instance != "i-990" {
			t.Errorf("the events are %+v", events)
		}
		if d := events[0].Detail; len(d) > keptDetail+len("…") || !strings.HasSuffix(d, "ü…") {
			t.Errorf("the detail is %q", d)
		}
		if e := events[keptEvents]; e.Kind != "ejected" || e.Detail != "9 calls in a row failed, out for 5s, time 1" {
			t.Errorf("the ejection is %+v", e)
		}
		if totals, events := r.of("nobody"); len(totals) != 0 || len(events) != 0 {
			t.Errorf("a service without events has %v and %v", totals, events)
		}
	})
}

// TestEventsAreKept: each event about calls or instances is shown.
func TestEventsAreKept(t *testing.T) {
	for kind, e := range []Event{
		kindRejected: CallRejected{Service: "a", Err: rejectedError()}, kindRetried: CallRetried{Service: "a"},
		kindGaveUp: CallGaveUp{Service: "a"}, kindFailed: CallFailed{Service: "a"}, kindHedged: CallHedged{Service: "a"}, kindBounced: CallBounced{Service: "a"},
		kindEjected: InstanceEjected{Service: "a"}, kindReturned: InstanceReturned{Service: "a"}, kindLastResort: LastResort{Service: "a"},
	} {
		if service, got, _ := explainEvent(e); service != "a" || got != kind {
			t.Errorf("%T is kept as %d for %q, want %d", e, got, service, kind)
		}
	}
}

// TestEjectionsSayWhatDecided: a run of failures is hardly seen in the share.
func TestEjectionsSayWhatDecided(t *testing.T) {
	for want, e := range map[string]InstanceEjected{
		"9 calls in a row failed, out for 5s, time 1": {Reason: "consecutive", Share: 0.06, Run: 9},
		"60 % failed, out for 5s, time 1":             {Reason: "share", Share: 0.6, Run: 1},
		"its trial call failed, out for 5s, time 1":   {Reason: "trial", Share: 1},
	} {
		e.Service, e.For, e.Times, e.KeptOut = "a", 5*time.Second, 1, true
		if _, _, got := explainEvent(e); got.Detail != want {
			t.Errorf("of an ejection for %s it says %q, want %q", e.Reason, got.Detail, want)
		}
	}
}

func rejectedError() *BreakerError {
	return &BreakerError{Service: "a", Method: "Get", Rejection: &breaker.Rejection{}}
}
