// Command scaffold makes and maintains Plinth services. It needs Go, and git only where it makes a commit: no protoc, no network.
//
// Data goes to standard output, progress and errors to standard error. Exit codes: 0 done, 1 failed with nothing left half-made, 2 wrong
// use, 3 a check found something out of date.
package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/configcmd"
	"plinth.internal/cmd/scaffold/internal/democmd"
	"plinth.internal/cmd/scaffold/internal/gencmd"
	"plinth.internal/cmd/scaffold/internal/newcmd"
	"plinth.internal/cmd/scaffold/internal/overridecmd"
	"plinth.internal/cmd/scaffold/internal/pscmd"
	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/cmd/scaffold/internal/versioncmd"
)

func main() { os.Exit(run()) }

// run is main with its exit code, for tests that run the command line in their own binary.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd, err := newRoot().ExecuteContextC(ctx)
	return ui.Report(cmd, err)
}

// newRoot lists the commands. A new one is a package of its own with NewCommand, and a line here.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "scaffold",
		Short:         "Make and maintain Plinth services",
		SilenceErrors: true, // ui.Report shows them
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.UnknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
		Args:              cobra.ArbitraryArgs,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},

		SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if slices.Contains(os.Args, "--json") { // it may stand behind what could not be read
			if cmd.Flags().Lookup("json") == nil { // of a command that only has others
				ui.JSONFlag(cmd)
			}
			_ = cmd.Flags().Set("json", "true") // a bool
		}
		if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 { // the flag is of a command that there is not
			return ui.UnknownCommand(cmd, cmd.Flags().Arg(0))
		}
		return ui.Usage(err.Error(), cmd.CommandPath()+" --help")
	})
	root.SetHelpCommand(newHelpCommand(root))
	root.AddCommand(
		democmd.NewCommand(),
		newcmd.NewCommand(),
		gencmd.NewCommand(),
		pscmd.NewCommand(),
		overridecmd.NewDrainCommand(),
		overridecmd.NewUndrainCommand(),
		overridecmd.NewWeightCommand(),
		configcmd.NewCommand(),
		versioncmd.NewCommand(),
	)
	return root
}

// newHelpCommand returns `scaffold help`. Cobra's own ends well for a command that there is not.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil {
				return ui.Usage(err.Error(), "scaffold --help")
			}
			if len(rest) > 0 {
				return ui.UnknownCommand(cmd, rest[0])
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}
