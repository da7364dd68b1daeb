//go:build linux && race

package chaos_test

// raced says that everything, etcd too, runs some times slower than it does.
const raced = true
