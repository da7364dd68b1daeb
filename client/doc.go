// Package client calls a service by its name: discovery, balancing, deadline,
// retry and breaker behind a plain *grpc.ClientConn or *http.Client, or behind a
// [NetRPC] for services that still speak net/rpc.
//
// The chain is folded once for each service and is the same for unary calls,
// streams, HTTP requests and net/rpc calls:
//
//	call ─> [outer] ─> deadline ─> retry ─┬─> breaker ─> pick ─> transport ─> instance
//	        tracing    a total    at most │   (service,  (balancer, not the
//	        metering   for all    three   │   method)    one that failed)
//	                   attempts   attempts│
//	                                      └─> breaker ─> pick ─> transport ─> another instance
//
// What a failed attempt does: one that provably never reached an instance is
// made again at once on another one, for free; one that may have been processed
// is made again only if the call is idempotent (the proto's idempotency_level, the
// HTTP method), after a jittered delay, out of a budget of a tenth of the calls.
//
// What keeps calls away from an instance, from the mild to the strict:
//
//   - its cost, which the default policy compares for every pick: latency, calls in
//     flight, failures (package balancer);
//   - the instance itself, which hands a first attempt back if it is much busier
//     than the rest of the fleet (package middleware/load); the call is made on
//     another one, nothing counts as failed, and nobody notices;
//   - its ejection, after results that are worse than those of the others, until a
//     real call succeeds or a real stream has its first message (package outlier);
//   - its connection and its health check.
//
// And what keeps calls away from a service as a whole: the breaker, one for each
// service, or for each method that asks for one of its own (package breaker).
//
// These packages hold the rules and their numbers; [Settings] chooses among them
// for each service and method, and counts from the next call on when it changes.
//
// Guarantees:
//   - Getting a connection never waits and never fails because of the registry.
//     Calls made before the first list of instances is known wait for it; calls
//     made while there is none fail at once, UNAVAILABLE, with a sentence that says
//     since when and why, and how old the list in use is; and all heals by itself.
//   - A list that was good is kept for as long as the registry fails. An instance
//     that the registry has lost without a word is called for as long as its
//     connection and its health say that it is there; see [registry.Registry.Drop].
//   - An instance gets its first call once it is connected and healthy, and its
//     full share after a slow start. One that drains (in the registry, or by its
//     health service) gets no new calls while there is another one that can be
//     called; without any, those that are connected are called all the same.
//   - A call whose retries are used up returns an error that keeps the layers
//     above from retrying as well; see [middleware.NoRetry].
//   - The error of a call whose deadline is over says what was called, where, how
//     long it was given and whose limit that was; the error of one that ended with
//     its connection over gRPC says where. Codes, details and what errors.Is finds
//     are those of the transport's error.
//   - A stream is never repeated unless it was never sent, and an HTTP request
//     whose body cannot be had again is not even then.
//   - An HTTP call ends at its deadline also where the Read of the request's body
//     blocks. The body is closed when that Read has returned, not before.
//   - Over HTTP at most [Settings].MaxConnections connections to an instance are
//     open. Those to one that has left the list are closed, the ones in use after
//     their requests. The latency of a request ends with the head of its response:
//     how fast its caller reads the body says nothing about the instance.
//   - A timeout is the instance's fault only if it was given a fifth at least of
//     what its calls usually take; what the caller cancels is nobody's. A stream
//     over gRPC that lasts until its deadline is a timeout only if nothing has come
//     on it, neither a message nor the head of the answer: a server that may have
//     nothing to say for long sends its header at once (grpc's SendHeader). Over
//     HTTP a deadline that passes while the instance waits for its caller is none.
//   - A TCP connection is made within 500 ms or not at all, and made again after
//     0.1 s at first, 5 s at most, half of it up to chance.
//   - An instance that could not be reached is tried again within 7 s, each client
//     at another moment, while others can be called; at once and with a growing
//     pause while none can.
//   - An idle connection is probed every 10 seconds, so that a dead instance is
//     found within 13. A server must allow that: Plinth's do; to another grpc-go
//     server give a keepalive.EnforcementPolicy with a MinTime of 5 seconds and
//     PermitWithoutStream, or it ends the connection now and then
//     (too_many_pings).
//   - What a call does is decided by the state of one [Client]. Two clients in one
//     process do not see each other.
//   - All methods may be called concurrently. Functions given as options are called
//     from the goroutine of the call or the update concerned, and hold it up as
//     long as they take.
//   - After [Client.Close] no goroutine is left.
package client
