// Package overridecmd is `scaffold drain`, `undrain` and `weight`: an operator's
// say in one running instance, without stopping it.
//
// All three write an override beside the instance's entry and wait until the
// instance shows it in the entry itself, because only then do its callers know.
// One that does not react leaves things as they were: the override is taken
// back, and the command fails.
package overridecmd

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/access"
	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/registry"
)

const (
	// defaultWait is how long an instance may take to follow. One that lives and
	// reaches etcd takes milliseconds.
	defaultWait = 5 * time.Second
	// maxWeight is a hundred times the usual weight.
	maxWeight = 100 * registry.DefaultWeight

	exitCodes = "Exit codes: 0 the instance shows it; 1 it does not, or an error, and nothing has changed; 2 wrong use."
	which     = "ID is an instance's ID, the beginning of one that no other has, or SERVICE/ID; scaffold ps lists them."
)

// wish is what one of the commands wants of an instance.
type wish struct {
	// apply changes the one field it is about.
	apply func(registry.Override) registry.Override
	// clears says that nothing is wanted any more, so that there may be nothing to do.
	clears bool
	// shows reports whether an entry that was written after the override was
	// changed says what is wanted.
	shows func(registry.Instance) bool
	// done tells a person how it ended.
	done func(inst registry.Instance) string
}

type options struct {
	access access.Flags
	wait   time.Duration
}

func newCommand(use, short, long, example string, want func(args []string) (wish, error)) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Long:    long + "\n\n" + which + "\n\n" + exitCodes,
		Example: example,
		Args:    ui.Arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := want(args)
			if err != nil {
				return err
			}
			if o.wait < 0 {
				return ui.Usage(fmt.Sprintf("--wait %v is below zero", o.wait), "--wait 5s, or 0 not to wait")
			}
			return run(cmd.Context(), ui.NewPrinter(cmd), o, args[0], w)
		},
	}
	o.access.Add(cmd)
	cmd.Flags().DurationVar(&o.wait, "wait", defaultWait, "how long the instance may take to follow; 0 does not wait, and leaves the override")
	ui.JSONFlag(cmd)
	return cmd
}

// NewDrainCommand returns `scaffold drain ID`.
func NewDrainCommand() *cobra.Command {
	return newCommand("drain ID", "Take an instance out of rotation without stopping it",
		`Take an instance out of rotation: its callers give it no new calls, and it goes on with those it has. It keeps running, and stays out
of rotation however often it has to register again, until scaffold undrain, or until it stops.`,
		`  scaffold drain orders-k3x7q
  scaffold drain orders-k3x7q --wait 20s --json`,
		func([]string) (wish, error) {
			return wish{
				apply: func(o registry.Override) registry.Override { o.State = registry.Draining; return o },
				shows: func(inst registry.Instance) bool { return inst.State == registry.Draining },
				done: func(inst registry.Instance) string {
					return "is draining: it gets no new calls until `scaffold undrain " + inst.ID + "`"
				},
			}, nil
		})
}

// NewUndrainCommand returns `scaffold undrain ID`.
func NewUndrainCommand() *cobra.Command {
	return newCommand("undrain ID", "Put a drained instance back into rotation",
		`Take back what scaffold drain did. An instance that drains by itself, because it is stopping, goes on with that. With SERVICE/ID it
also takes away what an instance that died has left behind.`,
		`  scaffold undrain orders-k3x7q`,
		func([]string) (wish, error) {
			return wish{
				clears: true,
				apply:  func(o registry.Override) registry.Override { o.State = ""; return o },
				shows:  func(registry.Instance) bool { return true }, // it may be draining by itself
				done: func(inst registry.Instance) string {
					if inst.State == registry.Draining {
						return "is not drained by an operator, but drains by itself: it is stopping"
					}
					return "is up: it gets calls"
				},
			}, nil
		})
}

// NewWeightCommand returns `scaffold weight ID N`.
func NewWeightCommand() *cobra.Command {
	return newCommand("weight ID N", "Give an instance more or fewer calls than the others",
		fmt.Sprintf(`Set the weight of an instance: its share of calls relative to the others, of which each has %d unless it says otherwise. N is 1 to %d;
reset, or 0, gives the instance its own weight back. To give it no calls at all, use scaffold drain.`, registry.DefaultWeight, maxWeight),
		`  scaffold weight orders-k3x7q 10
  scaffold weight orders-k3x7q reset`,
		func(args []string) (wish, error) {
			n, err := strconv.Atoi(args[1])
			if args[1] == "reset" {
				n, err = 0, nil
			}
			if err != nil || n < 0 || n > maxWeight {
				return wish{}, ui.Usage(fmt.Sprintf("weight %q is none of 1 to %d, reset", args[1], maxWeight), "scaffold weight "+args[0]+" 50")
			}
			return wish{
				clears: n == 0,
				apply:  func(o registry.Override) registry.Override { o.Weight = n; return o },
				shows:  func(inst registry.Instance) bool { return n == 0 || inst.Weight == n },
				done: func(inst registry.Instance) string {
					if n == 0 {
						return fmt.Sprintf("has its own weight, %d", inst.Weight)
					}
					return fmt.Sprintf("has weight %d until `scaffold weight %s reset`", inst.Weight, inst.ID)
				},
			}, nil
		})
}
