// Package pscmd is `scaffold ps`: which instances are in the registry, what
// operators want of them, and how they are by their own account.
//
// The registry is read as it is now, past everything that clients keep of it.
// Health is asked from the instances themselves, all at the same time, and each
// has a second to answer; nothing they do makes the command fail.
package pscmd

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/access"
	"plinth.internal/cmd/scaffold/internal/ui"
)

// watchEvery is the time between two looks.
const watchEvery = 2 * time.Second

type options struct {
	access  access.Flags
	service string
	watch   bool
}

// NewCommand returns `scaffold ps [SERVICE]`.
func NewCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "ps [SERVICE]",
		Short: "List running instances and how they are",
		Long: `List the instances that are in the registry, of one service or of all, with what operators want of them and how they are.

STATE and WEIGHT are the registry's; "(operator)" marks those that drain, undrain and weight decide. HEALTH is what the instance itself says
within a second: ok, degraded or down, with the state of its registration where that is not "registered"; unreachable where nothing
answers from here; other where another instance answers at its address; unknown where it does not say.

Exit codes: 0 listed, however the instances are; 1 the registry could not be read; 2 wrong use.`,
		Example: `  scaffold ps --endpoints 127.0.0.1:2379
  scaffold ps orders --watch
  scaffold ps --json | jq -r 'select(.health == "unreachable") | .id'`,
		Args: ui.Arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.service = args[0]
			}
			return run(cmd.Context(), ui.NewPrinter(cmd), o, onTerminal(cmd.OutOrStdout()))
		},
	}
	o.access.Add(cmd)
	cmd.Flags().BoolVar(&o.watch, "watch", false, "look again every 2 seconds, until interrupted")
	ui.JSONFlag(cmd)
	return cmd
}

func run(ctx context.Context, p *ui.Printer, o options, redraw bool) error {
	r, err := o.access.Open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // nothing depends on it any more
	l, err := look(ctx, r, o.service)
	if err != nil {
		return r.Explain(err)
	}
	if !o.watch {
		if err := l.print(p, l.table()); err != nil {
			return err
		}
		if o.service != "" && len(l.rows) == 0 {
			p.Notef("note: no instance of %s", known(ctx, r, o.service))
		}
		return p.Result("", l.result())
	}
	return watch(ctx, p, r, o.service, l, redraw)
}

// watch shows the list and looks again, until ctx ends, which is how it is
// meant to end. A registry that cannot be read any more is no reason to end:
// it is when somebody watches.
func watch(ctx context.Context, p *ui.Printer, r *access.Registry, service string, l list, redraw bool) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var lookErr error
	for {
		if err := l.print(p, l.frame(lookErr, redraw)); err != nil {
			return err
		}
		if p.JSON() {
			if err := p.Data("", l.looked(lookErr)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return p.Result("", l.result())
		case <-tick.C:
		}
		next, err := look(ctx, r, service)
		if ctx.Err() != nil {
			return p.Result("", l.result())
		}
		if lookErr = err; err == nil {
			l = next
		}
	}
}

// frame is one drawing of a watched list: in place of the one before on a
// terminal, below it elsewhere.
func (l list) frame(err error, redraw bool) string {
	var b strings.Builder
	if redraw {
		b.WriteString("\x1b[H\x1b[2J")
	}
	b.WriteString(l.at.Format(time.TimeOnly) + "\n")
	if err != nil {
		b.WriteString("no newer list: " + plain(err.Error()) + "\n")
	}
	b.WriteString(l.table() + "\n")
	return b.String()
}

// known says that a service is not, and which ones are.
func known(ctx context.Context, r *access.Registry, service string) string {
	names, err := r.Services(ctx)
	if err != nil || len(names) == 0 {
		return service
	}
	return service + "; there are " + strings.Join(names, ", ")
}

// onTerminal reports whether a person looks at the output as it is written.
func onTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
