// Package chaos treats a real etcd badly and looks at what services and their
// clients notice of it. It is nothing but tests; `go test ./internal/chaos`
// runs every scenario in a short form, and
//
//	go test ./internal/chaos -run TestChaos -full -write -timeout 20m
//
// runs them at their real length and writes docs/chaos.md.
//
// Everything is real: etcd is etcd's own main function in a process of its own
// (the test binary, started again), services are processes of framework.Run,
// signals are signals, and a partition is a network namespace that lost its
// way to etcd. The scenarios need Linux; the partition also needs root and the
// command ip, and is skipped loudly without them, but fails when CI=true.
package chaos
