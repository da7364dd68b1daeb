// Command refresh writes what in templates/ follows from something else: the generated Go of the template's API, the callee (the same API under
// its own placeholder name), the files that caller shares with service, and go.mod.tmpl and go.sum.tmpl, tidy for what a new service imports.
//
//	go run ./cmd/scaffold/internal/refresh           write
//	go run ./cmd/scaffold/internal/refresh --check   write nothing; exit 3 and name the files that would change
//
// Run it at the root of the repository after a change of the template's .proto, of the root's go.mod, or of what the framework imports.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	check := slices.Contains(os.Args[1:], "--check")
	changed, err := refresh(ctx, ".", !check)
	for _, name := range changed {
		fmt.Println(name)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	case check && len(changed) > 0:
		return 3
	}
	return 0
}
