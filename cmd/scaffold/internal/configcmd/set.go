package configcmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/config"
	"plinth.internal/config/etcd"
)

// anyRevision is no --revision at all.
const anyRevision = -1

// writing are the flags of the commands that write.
type writing struct {
	revision int64
	author   string
	message  string
}

func (w *writing) add(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&w.revision, "revision", anyRevision, "revision that the change is made from, 0 for no document; the one there is now unless given")
	cmd.Flags().StringVar(&w.author, "author", "", "who makes the change (default user@host)")
	cmd.Flags().StringVarP(&w.message, "message", "m", "", "why, for the history")
}

func (w *writing) badRevision() error {
	return ui.Usage(fmt.Sprintf("--revision %d is below zero", w.revision), "scaffold config get shows the revision; 0 where there is no document yet")
}

func newSetCommand() *cobra.Command {
	var w writing
	var file string
	var unset []string
	var force bool
	cmd := &cobra.Command{
		Use:   "set DOCUMENT [KEY=VALUE...]",
		Short: "Change a document",
		Long: `Change keys of a document, or with --file the whole of it. What is not changed stays as it is, comments too. The new document is checked
first: that it is YAML, and that services could use what it says of the framework's keys; a service's own keys are known to the service alone.

Nobody is overwritten: if the document has changed since it was read, or is not at --revision, nothing is written.

` + which + " VALUE is YAML: 500ms, [a, b].\n\n" + exitCodes,
		Example: `  scaffold config set orders clients.billing.timeout=500ms -m "billing is slow"
  scaffold config set orders --unset clients.billing.timeout
  scaffold config set default --file default.yaml --revision 17`,
		Args: arguments("KEY=VALUE", 1, 0),
	}
	w.add(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "the whole document, - for standard input")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "key to take out, with all below it; may be given more than once")
	cmd.Flags().BoolVar(&force, "force", false, "write what is YAML even if the framework of this command would not take it")
	return command(cmd, func(ctx context.Context, s *session, args []string) error {
		name := args[0]
		settings, err := parseSettings(args[1:])
		switch {
		case err != nil:
			return err
		case w.revision < anyRevision:
			return w.badRevision()
		case file != "" && len(settings)+len(unset) > 0:
			return ui.Usage("--file and single keys exclude each other", "scaffold config set --help")
		case file == "" && len(settings)+len(unset) == 0:
			return ui.Usage("what to set was not said", "scaffold config set "+name+" KEY=VALUE, --unset KEY, or --file FILE (- for standard input)")
		}
		now, err := s.Documents.Get(ctx, name)
		if err != nil {
			return s.explain(err)
		}
		next, err := s.changed(name, now, file, settings, unset)
		if err != nil {
			return err
		}
		if err := check(name, next, force, s.printer); err != nil {
			return err
		}
		return s.write(ctx, name, now, next, w)
	})
}

// parseSettings takes the arguments behind the document apart.
func parseSettings(args []string) (settings [][2]string, err error) {
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || slices.Contains(strings.Split(key, "."), "") {
			return nil, ui.Usage(fmt.Sprintf("argument %q is no KEY=VALUE", arg), "such as clients.billing.timeout=500ms")
		}
		settings = append(settings, [2]string{key, value})
	}
	return settings, nil
}

// changed is a document after a change.
func (s *session) changed(name string, now etcd.Version, file string, settings [][2]string, unset []string) ([]byte, error) {
	if file != "" {
		return s.readInput(file)
	}
	next, err := edit(now.Data, settings, unset)
	if err != nil {
		return nil, &ui.Error{Code: "not_editable", Message: err.Error(), Hint: fmt.Sprintf("scaffold config get %[1]s > FILE, change FILE, scaffold config set %[1]s --file FILE", name), Err: err}
	}
	return next, nil
}

func (s *session) readInput(file string) ([]byte, error) {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(io.LimitReader(s.in, config.MaxDocument+1))
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, &ui.Error{Code: "no_file", Message: err.Error(), Path: file, Exit: ui.ExitUsage, Err: err}
	}
	return data, nil
}

// written is the last line of set and rollback with --json.
type written struct {
	head
	document

	Changed bool     `json:"changed"`
	Changes []change `json:"changes"`
}

// write puts a document in place of what was read.
func (s *session) write(ctx context.Context, name string, now etcd.Version, next []byte, w writing) error {
	if w.revision != anyRevision && w.revision != now.Revision {
		return s.explain(&etcd.ConflictError{Document: name, Expected: w.revision, Current: now})
	}
	if now.Revision != 0 && string(now.Data) == string(next) {
		return s.printer.Result(name+" says so already; nothing was written", written{head{"result", true}, describe(name, now), false, []change{}})
	}
	v, err := s.Documents.Put(ctx, name, next, now.Revision, author(w.author), w.message)
	if err != nil {
		return s.explain(err)
	}
	changes := compare(now.Data, next)
	if !s.printer.JSON() {
		if err := s.printer.Result(render(changes), nil); err != nil {
			return err
		}
	}
	return s.printer.Result(fmt.Sprintf("%s is at revision %d, version %d; services use it within a second, or say on /health why not", name, v.Revision, v.Number),
		written{head{"result", true}, describe(name, v), true, changes})
}
