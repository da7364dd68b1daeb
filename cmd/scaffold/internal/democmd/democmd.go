// Package democmd is `scaffold demo`: a small system of real processes that
// loses one of its instances under load without losing a call.
//
// It starts an etcd in this process, makes two services from the embedded
// templates (orders, which calls billing), builds them, runs two instances of
// each, and calls orders through the whole client stack. In the middle one
// instance of orders is killed with SIGKILL and later started again. Everything
// happens in a temporary directory and on loopback; at the end, and after an
// interrupt, nothing is left of it but what --keep keeps.
package democmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/project"
	"plinth.internal/cmd/scaffold/internal/ui"
)

const (
	defaultDuration = 10 * time.Second
	minDuration     = 3 * time.Second
)

type options struct {
	duration  time.Duration
	keep      bool
	framework string
}

// NewCommand returns `scaffold demo`.
func NewCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run two real services, kill one instance under load, and count what was lost",
		Long: `Run two real services made from the templates, two instances of each, with an etcd in this process. Calls go through the whole
client stack while one instance is killed with SIGKILL and started again. Nothing has to be installed but Go.

Exit codes: 0 no call failed, 1 a call failed or the demo could not run, 2 wrong use.`,
		Example: `  scaffold demo
  scaffold demo --duration 20s --json`,
		Args: ui.Arguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.duration < minDuration {
				return ui.Usage(fmt.Sprintf("--duration %v is too short to kill an instance and start it again", o.duration),
					fmt.Sprintf("give %v or more", minDuration))
			}
			return run(cmd.Context(), ui.NewPrinter(cmd), o)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.duration, "duration", defaultDuration, "how long calls are made")
	f.BoolVar(&o.keep, "keep", false, "leave the services, their binaries and their logs, and say where")
	f.StringVar(&o.framework, "framework", "", "checkout of "+project.FrameworkModule+" to build with")
	ui.JSONFlag(cmd)
	return cmd
}

// result is the last line with --json.
type result struct {
	Type      string         `json:"type"`
	OK        bool           `json:"ok"`
	Calls     int            `json:"calls"`
	Failed    int            `json:"failed"`
	Retries   int            `json:"retries"`
	P50MS     float64        `json:"p50_ms"`
	P99MS     float64        `json:"p99_ms"`
	Instances map[string]int `json:"instances"`
	// Beyond the numbers: which instance was killed, which one took its
	// place, how long the first answer took, and a trace that crossed both
	// services after the kill.
	Killed     string   `json:"killed"`
	Restarted  string   `json:"restarted"`
	FirstCallS float64  `json:"first_call_s"`
	TraceID    string   `json:"trace_id"`
	TraceLogs  []string `json:"trace_logs"`
	Dir        string   `json:"dir,omitempty"`
}

func run(ctx context.Context, p *ui.Printer, o options) (err error) {
	begun := time.Now()
	c, err := newCluster(p)
	if err != nil {
		return err
	}
	defer func() {
		left, stopErr := c.stop(o.keep)
		if left != "" {
			p.Notef("kept in %s", left)
		}
		if ctx.Err() != nil {
			err = &ui.Error{Code: "interrupted", Message: "interrupted; nothing is left", Err: ctx.Err()}
			if left != "" {
				err = &ui.Error{Code: "interrupted", Message: "interrupted", Path: left, Err: ctx.Err()}
			}
			return
		}
		err = errors.Join(err, stopErr)
	}()

	if err := c.start(ctx, o.framework); err != nil {
		return err
	}
	l, err := newLoad(c.registry)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.first(ctx); err != nil {
		return fmt.Errorf("make the first call: %w", err)
	}
	firstCall := time.Since(begun)
	p.Notef("  %-9s answered after %.1fs", "call", firstCall.Seconds())

	r := result{Type: "result", FirstCallS: firstCall.Seconds()}
	schedule := []event{
		{at: o.duration / 3, do: func() (err error) {
			r.Killed, err = c.kill("orders")
			return err
		}},
		{at: o.duration * 2 / 3, do: func() (err error) {
			r.Restarted, err = c.restart(ctx, "orders")
			return err
		}},
	}
	if err := l.run(ctx, p, o.duration, schedule); err != nil {
		return err
	}
	s := l.summary()
	r.Calls, r.Failed, r.Retries, r.Instances = s.calls, s.failed, s.retries, s.instances
	r.P50MS, r.P99MS = s.p50, s.p99
	r.TraceID = s.trace
	r.TraceLogs = c.logsWith(s.trace)
	r.OK = r.Failed == 0
	if o.keep {
		r.Dir = c.dir
	}
	if err := p.Result(table(r, s), r); err != nil {
		return err
	}
	if !r.OK {
		return &ui.Error{
			Code: "calls_failed", Reported: p.JSON(),
			Message: fmt.Sprintf("%d of %d calls failed, the first one with: %v", r.Failed, r.Calls, s.firstError),
			Hint:    "run it with --keep and look into the logs",
		}
	}
	return nil
}
