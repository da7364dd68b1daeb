package configcmd

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/config/etcd"
)

// maxKeys is how many changed keys a line of the history names.
const maxKeys = 2

func newHistoryCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:   "history DOCUMENT",
		Short: "List the versions of a document, the newest first",
		Long: fmt.Sprintf(`List the versions of a document, the newest first: the last %d that scaffold config wrote. One that was written past it is listed as
long as it is the newest, and kept when the next one is written.

The newest is what services are told to use. One that cannot use it says so on its /health and goes on with the last one that it could use.

`, etcd.MaxHistory) + which + "\n\n" + exitCodes,
		Example: `  scaffold config history orders`,
		Args:    arguments("", 1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		name := args[0]
		now, err := s.Documents.Get(ctx, name)
		if err != nil {
			return s.explain(err)
		}
		versions, err := s.Documents.History(ctx, name)
		if err != nil {
			return s.explain(err)
		}
		if now.Revision != 0 && now.Number == 0 {
			now.Author = etcd.External
			versions = append(versions, now)
		}
		return s.list(name, now, versions)
	})
}

// listed is one version with --json.
type listed struct {
	head
	document

	Newest  bool     `json:"newest"` // of the document as it is; whether services use it is theirs to say
	Changes []change `json:"changes"`
}

func (s *session) list(name string, now etcd.Version, versions []etcd.Version) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tREVISION\tTIME\tAUTHOR\tCHANGED\tMESSAGE")
	for i, v := range slices.Backward(versions) {
		var before []byte
		if i > 0 {
			before = versions[i-1].Data
		}
		l := listed{head{"version", true}, describe(name, v), v.Revision == now.Revision, compare(before, v.Data)}
		if s.printer.JSON() {
			if err := s.printer.Data("", l); err != nil {
				return err
			}
			continue
		}
		number, at := "-", "-"
		if v.Number > 0 {
			number = strconv.FormatInt(v.Number, 10)
		}
		if l.Newest {
			number += " (newest)"
		}
		if !v.Time.IsZero() {
			at = v.Time.Local().Format(time.DateTime)
		}
		fmt.Fprintln(w, strings.Join([]string{number, strconv.FormatInt(v.Revision, 10), at, plain(v.Author), l.keys(), plain(v.Message)}, "\t"))
	}
	_ = w.Flush() // to memory
	switch {
	case len(versions) == 0:
		s.printer.Notef("note: there is no document of %s, and no version of one", name)
	case now.Revision == 0:
		s.printer.Notef("note: the document of %s was deleted; scaffold config rollback %[1]s VERSION puts one back", name)
	}
	text := strings.TrimSuffix(b.String(), "\n")
	if len(versions) == 0 {
		text = ""
	}
	return s.printer.Result(text, map[string]any{"type": "result", "ok": true, "document": name, "revision": now.Revision, "versions": len(versions)})
}

// keys names what a version changed.
func (l listed) keys() string {
	if len(l.Changes) == 0 {
		return "-"
	}
	var names []string
	for _, c := range l.Changes[:min(maxKeys, len(l.Changes))] {
		names = append(names, plain(c.Key))
	}
	text := strings.Join(names, ", ")
	if more := len(l.Changes) - maxKeys; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func newRollbackCommand() *cobra.Command {
	var w writing
	cmd := &cobra.Command{
		Use:   "rollback DOCUMENT VERSION",
		Short: "Put an earlier version of a document back",
		Long: `Put an earlier version of a document back. That is a new version: nothing is lost by it. The services' own check is not asked for again,
since they had it before; what this framework knows is checked as scaffold config set does.

` + which + "\n\n" + exitCodes,
		Example: `  scaffold config rollback orders 12 -m "too many timeouts"`,
		Args:    arguments("VERSION", 2, 2),
	}
	w.add(cmd)
	return command(cmd, func(ctx context.Context, s *session, args []string) error {
		name := args[0]
		number, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil || number < 1 {
			return ui.Usage(fmt.Sprintf("version %q is no number of one", args[1]), "scaffold config history "+name+" lists them")
		}
		if w.revision < anyRevision {
			return w.badRevision()
		}
		now, err := s.Documents.Get(ctx, name)
		if err != nil {
			return s.explain(err)
		}
		old, err := s.Documents.Version(ctx, name, number)
		if err != nil {
			return s.explain(err)
		}
		if err := check(name, old.Data, true, s.printer); err != nil {
			return err
		}
		if w.message == "" {
			w.message = fmt.Sprintf("rollback to version %d", number)
		}
		return s.write(ctx, name, now, old.Data, w)
	})
}
