package configcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/config"
)

// change is one key that two texts do not agree on.
type change struct {
	Key    string  `json:"key"`
	Before *string `json:"before"` // nil for not set
	After  *string `json:"after"`  // likewise
}

// compare lists the keys that differ, sorted. A text that is no document sets
// nothing.
func compare(before, after []byte) []change {
	values := func(data []byte) map[string]string {
		entries, err := config.ParseDocument("", data)
		if err != nil {
			return nil
		}
		out := map[string]string{}
		for _, e := range entries {
			out[e.Key] = e.Value
		}
		return out
	}
	old, current := values(before), values(after)
	changes := []change{}
	for key, value := range old {
		if now, ok := current[key]; !ok {
			changes = append(changes, change{key, &value, nil})
		} else if now != value {
			changes = append(changes, change{key, &value, &now})
		}
	}
	for key, value := range current {
		if _, ok := old[key]; !ok {
			changes = append(changes, change{key, nil, &value})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return strings.Compare(a.Key, b.Key) })
	return changes
}

// render is a list of changes as a person reads it, "" for none.
func render(changes []change) string {
	var lines []string
	for _, c := range changes {
		if c.Before != nil {
			lines = append(lines, "- "+plain(c.Key+": "+*c.Before))
		}
		if c.After != nil {
			lines = append(lines, "+ "+plain(c.Key+": "+*c.After))
		}
	}
	return strings.Join(lines, "\n")
}

func newDiffCommand() *cobra.Command {
	var unset []string
	cmd := &cobra.Command{
		Use:   "diff [SERVICE] FILE|KEY=VALUE...",
		Short: "Show what scaffold config set would change",
		Long: `Show which keys scaffold config set would change, and check the document as it does. Nothing is written. FILE is the whole document,
- for standard input.

` + which + `

Exit codes, as of diff(1): 0 nothing would change; 1 something would; 2 trouble: wrong use, no etcd, or a document that services would not take.`,
		Example: `  scaffold config diff orders orders.yaml
  scaffold config diff orders clients.billing.timeout=500ms`,
		Args: ui.Args(func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && len(unset) == 0 {
				return errors.New("what to compare with was not said")
			}
			return nil
		}),
	}
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "key to take out, with all below it; may be given more than once")
	return command(cmd, func(ctx context.Context, s *session, args []string) error {
		return trouble(s.diff(ctx, args, unset))
	})
}

// trouble gives errors the exit code that diff(1) has for them.
func trouble(err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*ui.Error](err)
	if !ok {
		return &ui.Error{Code: "failed", Message: err.Error(), Exit: ui.ExitUsage, Err: err}
	}
	if e.Code == codeDiffers {
		return e
	}
	again := *e
	again.Exit = ui.ExitUsage
	return &again
}

const codeDiffers = "differs"

func (s *session) diff(ctx context.Context, args, unset []string) error {
	file := ""
	if last := len(args) - 1; last >= 0 && len(unset) == 0 && !strings.Contains(args[last], "=") {
		args, file = args[:last], args[last]
		if len(args) > 1 {
			return ui.Usage("more than SERVICE and FILE was given", "scaffold config diff --help")
		}
	}
	name, settings, err := parseSettings(args)
	if err != nil {
		return err
	}
	now, err := s.Documents.Get(ctx, name)
	if err != nil {
		return s.explain(err)
	}
	next, err := s.changed(now, file, settings, unset)
	if err != nil {
		return err
	}
	if err := check(name, next, false, s.printer); err != nil {
		return err
	}
	changes := compare(now.Data, next)
	same := string(now.Data) == string(next)
	d := describe(name, now)
	if same {
		return s.printer.Result("nothing would change", written{head{"result", true}, d, false, changes})
	}
	if !s.printer.JSON() {
		s.printer.Notef("--- %s (%s)", name, d.who())
	}
	text := render(changes)
	if text == "" {
		text = "the keys and values are the same; the text differs"
	}
	if err := s.printer.Result(text, written{head{"result", true}, d, true, changes}); err != nil {
		return err
	}
	return &ui.Error{Code: codeDiffers, Message: fmt.Sprintf("%d keys of %s would change", len(changes), name), Exit: ui.ExitFailed, Reported: true}
}
