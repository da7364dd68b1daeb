//go:build race

package sim

// raced says that everything runs some ten times slower than it does.
const raced = true
