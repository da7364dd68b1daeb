// Package configcmd is `scaffold config`: the central documents that services follow,
// read, compared, changed and put back.
//
// A document is what all services read ("default") or what one service reads. Every
// change is checked before it is written, names the revision that it was made from,
// and is kept with its author, so that nobody overwrites what he has not seen and
// everything can be put back.
package configcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/access"
	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/config"
	"plinth.internal/config/etcd"
	"plinth.internal/framework"
)

const (
	exitCodes = "Exit codes: 0 done; 1 not done, and nothing has changed; 2 wrong use."
	which     = "DOCUMENT is the name of a service for its own document, or " + etcd.Default + " for the one that all services read."
)

// NewCommand returns `scaffold config`.
func NewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Read and change the central configuration of running services",
		Long: `Read and change the central configuration of running services: the documents in etcd that lie above a service's file, environment and
command line. They set hot keys only, and a change is in use within a second.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.UnknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(newGetCommand(), newSetCommand(), newDiffCommand(), newHistoryCommand(), newRollbackCommand())
	return cmd
}

// session is one command's access to the documents.
type session struct {
	*access.Registry

	printer *ui.Printer
	in      io.Reader
}

// head begins an object with --json.
type head struct {
	Type string `json:"type"`
	OK   bool   `json:"ok"`
}

// document is a document as one of the commands speaks of it.
type document struct {
	Document string `json:"document"`
	Revision int64  `json:"revision"`
	Version  int64  `json:"version,omitempty"`
	Time     string `json:"time,omitempty"`
	Author   string `json:"author,omitempty"`
	Message  string `json:"message,omitempty"`
}

func describe(name string, v etcd.Version) document {
	d := document{Document: name, Revision: v.Revision, Version: v.Number, Author: v.Author, Message: v.Message}
	if !v.Time.IsZero() {
		d.Time = v.Time.UTC().Format(time.RFC3339)
	}
	return d
}

// who is what a person reads of a version.
func (d document) who() string {
	switch {
	case d.Revision == 0:
		return "there is no such document"
	case d.Time == "":
		return fmt.Sprintf("revision %d, written past scaffold config", d.Revision)
	}
	text := fmt.Sprintf("revision %d, version %d by %s at %s", d.Revision, d.Version, plain(d.Author), d.Time)
	if d.Message != "" {
		text += ": " + plain(d.Message)
	}
	return text
}

// command makes a command that talks to etcd.
func command(cmd *cobra.Command, run func(ctx context.Context, s *session, args []string) error) *cobra.Command {
	var flags access.Flags
	flags.Add(cmd)
	ui.JSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := flags.Open()
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }() // nothing depends on it any more
		return run(cmd.Context(), &session{Registry: r, printer: ui.NewPrinter(cmd), in: cmd.InOrStdin()}, args)
	}
	return cmd
}

// explain adds the next step to what can happen to a document.
func (s *session) explain(err error) error {
	if e, ok := errors.AsType[*etcd.ConflictError](err); ok {
		return &ui.Error{
			Code: "conflict", Message: e.Error(), Err: err,
			Hint: fmt.Sprintf("scaffold config get %s, look at what is there, and try again", e.Document),
		}
	}
	if e, ok := errors.AsType[*etcd.NoVersionError](err); ok {
		return &ui.Error{Code: "no_such_version", Message: e.Error(), Hint: "scaffold config history " + e.Document, Err: err}
	}
	return s.Explain(err)
}

// check holds a text against YAML and the framework's keys. The unknown keys are the
// service's own.
func check(name string, data []byte, force bool, p *ui.Printer) error {
	invalid := func(err error, hint string) error {
		lines := strings.Split(err.Error(), "\n")
		for i, line := range lines {
			lines[i] = "  " + line
		}
		return &ui.Error{Code: "invalid_document", Message: "services would not take this document of " + name, Detail: lines, Hint: hint, Err: err}
	}
	if _, err := config.ParseDocument("document", data); err != nil {
		return invalid(err, "mend it; a document is a YAML mapping of keys")
	}
	_, err := framework.CheckDocument("document", data)
	switch {
	case err == nil:
		return nil
	case force:
		p.Notef("warning: written all the same, with --force: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		return nil
	}
	return invalid(err, "mend it; --force where the services are of a newer framework than this command")
}

// author is who makes a change, as user@host.
func author(flag string) string {
	if flag != "" {
		return flag
	}
	name := os.Getenv("USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	if name == "" {
		name = "?"
	}
	return name + "@" + host
}

// plain takes what a terminal would obey out of a text of others.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

// documentName is the form that the framework asks of the names of services.
var documentName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// arguments checks that a document comes first, and how many arguments there are;
// most of 0 is any number. Which document is always said: a name that was left out
// must not make a change of one service one of all services.
func arguments(rest string, least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		forms := forms(cmd, rest)
		switch {
		case len(args) == 0:
			return ui.Usage("which document was not said", forms)
		case !documentName.MatchString(args[0]):
			return ui.Usage(fmt.Sprintf("the document comes first, and %q cannot be a service's name: a-z, 0-9 and -, a letter first", args[0]), forms)
		case len(args) < least:
			return ui.Usage(fmt.Sprintf("the document is %s, but %s is missing", args[0], rest), forms)
		case most > 0 && len(args) > most:
			return ui.Usage(fmt.Sprintf("%d arguments, at most %d are allowed", len(args), most), forms)
		}
		return nil
	}
}

// forms are the two ways to call a command.
func forms(cmd *cobra.Command, rest string) string {
	if rest != "" {
		rest = " " + rest
	}
	return fmt.Sprintf("%[1]s SERVICE%[2]s\nor for all services: %[1]s %[3]s%[2]s", cmd.CommandPath(), rest, etcd.Default)
}
