package sim

import (
	"math/rand/v2"
	"time"
)

// Outcome is how an attempt ended.
type Outcome uint8

const (
	// Bounced means that the server handed the attempt back untouched.
	Bounced Outcome = iota
	// Succeeded means that the call was answered in time.
	Succeeded
	// Failed means that the server answered an error.
	Failed
	// TimedOut means that the deadline passed.
	TimedOut
)

// Report is what a server says of itself with each answer.
type Report struct {
	// InFlight is the number of calls it has.
	InFlight int64
	// Latency is the mean of the calls it served lately; 0 before the first.
	Latency time.Duration
	// Failures is the share of its calls that failed lately.
	Failures float64
	// QPS and EPS are its calls and failures per second.
	QPS, EPS float64
	// Utilization is the share of its cores that is busy.
	Utilization float64
}

// Attempt is one attempt of a call.
type Attempt struct {
	// Server is the index of the server it goes to.
	Server int
	// Began is when it was sent.
	Began time.Duration
	// Own is the policy's. It outlives the attempt and is found again in a
	// later one, so that memory can be used again.
	Own any
}

// Client is what one client knows and how it chooses. Its methods are called
// from one goroutine, with times that never decrease.
type Client interface {
	// Pick returns the index of a server. Exclude is the one that just bounced
	// this call, -1 if there is none.
	Pick(now time.Duration, exclude int) int
	// Limit is how many calls a server may have at most to take the first
	// attempt of a call; 0 means that it must not be bounced.
	Limit(now time.Duration) int64
	// Begin says that the attempt is sent.
	Begin(now time.Duration, a *Attempt)
	// End says how the attempt ended. The report is nil if no answer came.
	End(now time.Duration, a *Attempt, o Outcome, r *Report)
}

// Asker is a [Client] that asks servers for their load before it picks.
type Asker interface {
	// Ask appends the servers to ask for the next call; none means that it
	// can be picked at once.
	Ask(now time.Duration, buf []int) []int
	// Answer takes in what a server says to a probe.
	Answer(now time.Duration, server int, r Report)
	// PickAmong is [Client.Pick] once the asked servers have answered, or had the
	// time to: these did.
	PickAmong(now time.Duration, answered []int) int
}

// Env is what a client is made from.
type Env struct {
	// Index is the client's number, from 0.
	Index int
	// Servers is the number of servers.
	Servers int
	// Rand is the source of all chance in the policy. The clients share it.
	Rand *rand.Rand

	world *world
}

// Policy makes the clients of one run.
type Policy struct {
	// Name is what the tables call it.
	Name string
	// New returns one client, knowing nothing yet.
	New func(*Env) Client
}
