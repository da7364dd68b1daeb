// Package chaos treats what a service depends on badly, and looks at what its
// clients notice of it. It is nothing but tests: TestChaos is about a bad etcd,
// TestFleet about instances that die, hang, slow down, fail, are overloaded or
// replaced, about clocks that are wrong, and about bad networks between them and
// their clients, over gRPC and, where it is about the same verdict, over HTTP and
// net/rpc too. `go test ./internal/chaos` runs most scenarios in a short form, and
//
//	go test ./internal/chaos -run TestChaos -full -write -timeout 20m
//	go test ./internal/chaos -run TestFleet -full -write -timeout 60m
//
// run them at their real length and write docs/chaos.md and docs/faults.md. With
// -clock, and with -full, processes whose wall clock can be stepped take part; they are
// another build of the test binary, with another package time.
//
// In its short form a fleet is not judged by what becomes of its calls while other
// programs, or the race detector, leave it next to no processor, and says so; with
// CHAOS_JUDGE=strict in the environment it always is, as it is with -full.
//
// Everything is real: etcd is etcd's own main function in a process of its own
// (the test binary, started again), services are processes of framework.Run,
// the clients of a fleet are several processes, signals are signals, and a
// partition is a network namespace that lost its way to etcd. Only delayed and
// lost packets, and connections that are reset, are a proxy's doing. The
// scenarios need Linux; the partition also needs root and the command ip, and is
// skipped loudly without them, but fails when CI=true.
package chaos
