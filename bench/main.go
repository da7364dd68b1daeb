// Command bench measures what Plinth costs: unary gRPC calls between two
// processes on loopback, next to bare grpc-go and next to another framework.
//
// The contenders take turns: in a round each of them makes calls for one window,
// so that whatever else the machine does hits all of them alike. What counts is
// the median over the rounds of the ratio to bare grpc-go in the same round. A
// call that fails makes the command fail.
//
// Only allocations are held by tests, here and in the package framework; times
// depend on the machine.
//
//	go run . [-quick] [-rounds 5] [-window 3s] [-write ../docs/performance.md]
//	         [-only plinth] [-cell 32x100] [-cpuprofile DIR] [-memprofile DIR]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"
)

// Defaults of the command line.
const (
	defaultRounds = 5
	defaultWindow = 3 * time.Second
	quickRounds   = 3
	quickWindow   = 500 * time.Millisecond
)

func main() {
	os.Exit(program()) //nolint:forbidigo // this is main
}

func program() int {
	if order := os.Getenv(childEnv); order != "" {
		return child(order)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := command(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 2
	case err != nil:
		_, _ = fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// command is the whole program but for the exit code.
func command(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "3 rounds of 500ms: an impression, no result")
	rounds := flags.Int("rounds", defaultRounds, "how often every contender has its turn in a cell")
	window := flags.Duration("window", defaultWindow, "how long a turn is measured")
	write := flags.String("write", "", "write the document to this file")
	only := flags.String("only", "", "measure only the contenders with these names, separated by commas; bare always takes part")
	one := flags.String("cell", "", "measure only this cell, such as 32x100: concurrency x bytes")
	cpu := flags.String("cpuprofile", "", "write CPU profiles of all processes to this directory")
	mem := flags.String("memprofile", "", "write allocation profiles of all processes to this directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *quick {
		*rounds, *window = quickRounds, quickWindow
	}
	if *rounds < 1 || *window <= 0 {
		return fmt.Errorf("measure %d rounds of %s: both must be above zero", *rounds, *window)
	}
	chosen, err := choose(contenders(), *only)
	if err != nil {
		return err
	}
	measured := cells()
	if *one != "" {
		c, err := parseCell(*one)
		if err != nil {
			return err
		}
		measured = []cell{c}
	}
	p := plan{
		contenders: chosen, cells: measured, rounds: *rounds, window: *window, warmUp: *window / 5,
		profiles: profiles{CPU: *cpu, Mem: *mem}, progress: os.Stderr,
	}
	r, err := p.run(ctx)
	if err != nil {
		return err
	}
	if err := r.print(stdout); err != nil {
		return err
	}
	if *write == "" {
		return nil
	}
	if err := os.WriteFile(*write, []byte(r.document(args)), 0o644); err != nil {
		return fmt.Errorf("write document: %w", err)
	}
	return nil
}

// choose picks contenders by name; "" picks all.
func choose(all []contender, names string) ([]contender, error) {
	if names == "" {
		return all, nil
	}
	chosen := all[:1:1] // bare, which the others are compared to
	for name := range strings.SplitSeq(names, ",") {
		c, ok := find(all, strings.TrimSpace(name))
		if !ok {
			return nil, fmt.Errorf("choose contender %q: there is none; want one of %s", name, strings.Join(namesOf(all), ", "))
		}
		if c.name != chosen[0].name {
			chosen = append(chosen, c)
		}
	}
	return chosen, nil
}
