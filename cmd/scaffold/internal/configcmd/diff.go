package configcmd

import (
	"context"
	"errors"
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
	for i := range changes { // once they are found to differ
		changes[i].Before, changes[i].After = masked(changes[i].Before), masked(changes[i].After)
	}
	slices.SortFunc(changes, func(a, b change) int { return strings.Compare(a.Key, b.Key) })
	return changes
}

// masked is a value as it may be shown.
func masked(value *string) *string {
	if value == nil {
		return nil
	}
	return new(config.Mask(*value))
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
		Use:   "diff DOCUMENT FILE|KEY=VALUE...",
		Short: "Show what scaffold config set would change",
		Long: `Show which keys scaffold config set would change, and check the document as it does. Nothing is written. FILE is the whole document,
- for standard input.

` + which + `

Exit codes, as of diff(1): 0 nothing would change; 1 something would; 2 trouble: wrong use, no etcd, or a document that services would not take.`,
		Example: `  scaffold config diff orders orders.yaml
  scaffold config diff orders clients.billing.timeout=500ms`,
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		least := 2
		if len(unset) > 0 {
			least = 1
		}
		return arguments("FILE|KEY=VALUE", least, 0)(cmd, args)
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
	name, rest, file := args[0], args[1:], ""
	if len(rest) == 1 && len(unset) == 0 && !strings.Contains(rest[0], "=") {
		rest, file = nil, rest[0]
	}
	settings, err := parseSettings(rest)
	if err != nil {
		return err
	}
	now, err := s.Documents.Get(ctx, name)
	if err != nil {
		return s.explain(err)
	}
	next, err := s.changed(name, now, file, settings, unset)
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
	text, outcome := render(changes), ui.Count(len(changes), "key")+" of "+name+" would change"
	if text == "" {
		text = "the keys and values are the same; the text differs"
	}
	if err := s.printer.Result(text, written{head{"result", true}, d, true, changes}); err != nil {
		return err
	}
	if len(changes) > 0 && !s.printer.JSON() {
		s.printer.Notef("%s", outcome)
	}
	return &ui.Error{Code: codeDiffers, Message: outcome, Exit: ui.ExitFailed, Outcome: true}
}
