//go:build linux

package chaos_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// fleetGroup is what a scenario knows of those that run beside it.
type fleetGroup struct {
	etcd      string
	transport string // of the calls
	starved   *starvation
	// started says that the scenario has its processes, and returns when all
	// scenarios have: to start them takes so much CPU that nobody should judge
	// what it sees meanwhile.
	started func()
}

// TestFleet is what happens to calls when instances, or the way to them, fail.
// Those that judge small times run first and few at once, the others side by
// side as far as they fit on two cores.
func TestFleet(t *testing.T) {
	n := startEtcd(t, newHost())
	begun, starved := time.Now(), &starvation{}
	starved.watch(t)
	type scenario struct {
		name string
		run  func(t *testing.T, g *fleetGroup)
	}
	blackHole := func(code codes.Code) func(*testing.T, *fleetGroup) {
		return func(t *testing.T, g *fleetGroup) { testFleetBlackHole(t, g, code) }
	}
	herd := func(servers, killed, clients int, down time.Duration, variant string) func(*testing.T, *fleetGroup) {
		return func(t *testing.T, g *fleetGroup) { testFleetHerd(t, g, servers, killed, clients, down, variant) }
	}
	sparse := func(precise bool, variant string) func(*testing.T, *fleetGroup) {
		return func(t *testing.T, g *fleetGroup) { testFleetSparse(t, g, precise, variant) }
	}
	over := func(transport string, run func(*testing.T, *fleetGroup)) func(*testing.T, *fleetGroup) {
		return func(t *testing.T, g *fleetGroup) {
			g.transport = transport
			run(t, g)
		}
	}
	precise := []scenario{
		{"F16-slow", testFleetSlow},
		{"F01-killed", testFleetKilled},
		{"F18-bad-requests", testFleetBadRequests},
		{"F27-canceled", testFleetCanceled},
		{"F31-jitter", testFleetJitter},
		{"F34-foreign", testFleetForeign},
	}
	// A thousand clients take all of both cores for a second.
	flock := 300
	if *full {
		flock = 1000
	}
	others := []scenario{
		{"F03-crash-loop", testFleetCrashLoop},
		{"F04-paused", testFleetPaused},
		{"F17-unknown", blackHole(codes.Unknown)},
		{"F17-internal", blackHole(codes.Internal)},
		{"F17-unavailable", blackHole(codes.Unavailable)},
		{"F30-scale", testFleetScale},
		{"F33-deadlock", testFleetDeadlock},
	}
	crowds := []scenario{
		{"F21-reset", testFleetReset},
		{"F22-half-open", testFleetHalfOpen},
		{"F28-herd", herd(2, 1, flock, pick(20*time.Second, 8*time.Second), "one instance, long gone")},
		{"F35-sparse", sparse(false, "balancer adaptive")},
	}
	if *full {
		crowds = append(crowds,
			scenario{"F28-herd-at-once", herd(2, 1, 1000, 500*time.Millisecond, "one instance, soon back")},
			scenario{"F28-herd-all", herd(fleetServers, fleetServers, 100, 20*time.Second, "all instances")},
			scenario{"F35-sparse-precise", sparse(true, "balancer precise")})
	}
	reach := []scenario{
		{"F16-slow-http", over(overHTTP, testFleetSlow)},
		{"F16-slow-netrpc", over(overNetRPC, testFleetSlow)},
		{"F01-killed-http", over(overHTTP, testFleetKilled)},
		{"F01-killed-netrpc", over(overNetRPC, testFleetKilled)},
		{"F17-500-http", over(overHTTP, blackHole(codes.Internal))},
		{"F17-error-netrpc", over(overNetRPC, blackHole(codes.Unknown))},
	}
	if *full {
		reach = append(reach,
			scenario{"F17-503-http", over(overHTTP, blackHole(codes.Unavailable))},
			scenario{"F04-paused-http", over(overHTTP, testFleetPaused)},
			scenario{"F04-paused-netrpc", over(overNetRPC, testFleetPaused)},
			scenario{"F27-canceled-http", over(overHTTP, testFleetCanceled)},
			scenario{"F27-canceled-netrpc", over(overNetRPC, testFleetCanceled)},
			scenario{"overload", testFleetOverload},
			scenario{"overload-http", over(overHTTP, testFleetOverload)},
			scenario{"overload-netrpc", over(overNetRPC, testFleetOverload)})
	}
	deadlines := []scenario{
		{"F02-rolling", testFleetRolled},
		{"F26-deadline", testFleetDeadline},
		{"F26-deadline-http", over(overHTTP, testFleetDeadline)},
	}
	overloads := []scenario{
		{"F19-overload", testFleetOverloaded},
		{"F20-chain", testFleetChain},
		{"F32-greedy", testFleetGreedy},
	}
	entries := []scenario{
		{"F25-unleased", testFleetUnleased},
		{"F24-lies", testFleetLiars},
	}
	if *full || *steps {
		entries = append(entries, scenario{"F24-steps", testFleetStepped})
	}
	// With the race detector nothing of time is judged, and everything takes three
	// times as long: then those run that go through the most code.
	raceable := []string{
		"F01-killed", "F27-canceled", "F03-crash-loop", "F17-unknown", "F30-scale", "F21-reset", "F28-herd",
		"F01-killed-http", "F01-killed-netrpc", "F17-500-http", "F17-error-netrpc", "F26-deadline", "F26-deadline-http",
	}
	for _, s := range []struct {
		name      string
		atOnce    int // at their full length
		short     int // short, without the race detector
		scenarios []scenario
	}{
		{"precise", 1, 1, precise},
		{"others", 4, 4, others},
		{"crowds", 1, 1, crowds},
		{"reach", 1, 3, reach},
		{"deadlines", 1, 1, deadlines},
		{"overloads", 1, 1, overloads},
		{"entries", 2, 2, entries},
	} {
		slots, together := make(chan struct{}, s.atOnce), false
		if !*full && !raced {
			slots, together = make(chan struct{}, s.short), s.short >= len(s.scenarios)
		}
		var starting sync.WaitGroup
		t.Run(s.name, func(t *testing.T) {
			for _, s := range s.scenarios {
				if raced && !slices.Contains(raceable, s.name) {
					continue
				}
				t.Run(s.name, func(t *testing.T) {
					starting.Add(1) // before any of them goes on
					t.Parallel()
					slots <- struct{}{}
					defer func() { <-slots }()
					done := sync.OnceFunc(starting.Done)
					defer done() // in case it never got so far
					s.run(t, &fleetGroup{etcd: n.endpoint(), starved: starved, started: func() {
						done()
						if together {
							starting.Wait()
						}
					}})
				})
			}
		})
	}
	judgeSides(t, starved.since(begun))
	if *write {
		writeFaults(t)
	}
}
