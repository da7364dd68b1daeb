package configcmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/config"
	"plinth.internal/config/etcd"
)

func newGetCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:   "get DOCUMENT [KEY]",
		Short: "Print a document, or what the documents say of a key",
		Long: `Print a document as it is in etcd; its revision and author stand on standard error. With KEY, print the value that the service's document
and the one of all services give to it, or to all keys below it. What a service has of its file is on its /debug/config.

` + which + "\n\n" + exitCodes,
		Example: `  scaffold config get orders > orders.yaml
  scaffold config get orders clients.default.timeout`,
		Args: arguments("[KEY]", 1, 2),
	}, func(ctx context.Context, s *session, args []string) error {
		name := args[0]
		if len(args) == 2 {
			return s.getKey(ctx, name, args[1])
		}
		v, err := s.Documents.Get(ctx, name)
		if err != nil {
			return s.explain(err)
		}
		if v.Revision == 0 {
			return &ui.Error{Code: "no_document", Message: "there is no document of " + name, Hint: "scaffold config set " + name + " KEY=VALUE writes one"}
		}
		d := describe(name, v)
		s.printer.Notef("%s", d.who())
		return s.printer.Result(strings.TrimSuffix(string(v.Data), "\n"), struct {
			head
			document

			Data string `json:"data"`
		}{head{"result", true}, d, string(v.Data)})
	})
}

// keyed is one key with --json.
type keyed struct {
	Type   string `json:"type"`
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// getKey prints what wins among the two documents.
func (s *session) getKey(ctx context.Context, name, key string) error {
	found := map[string]keyed{}
	var order []string
	names := []string{etcd.Default, name}
	if name == etcd.Default {
		names = names[1:]
	}
	for _, n := range names {
		v, err := s.Documents.Get(ctx, n)
		if err != nil {
			return s.explain(err)
		}
		entries, err := config.ParseDocument(n, v.Data)
		if err != nil {
			return &ui.Error{Code: "invalid_document", Message: fmt.Sprintf("the document of %s is not good: %v", n, err), Hint: "scaffold config history " + n, Err: err}
		}
		for _, e := range entries {
			if e.Key != key && !strings.HasPrefix(e.Key, key+".") {
				continue
			}
			if _, known := found[e.Key]; !known {
				order = append(order, e.Key)
			}
			found[e.Key] = keyed{"key", e.Key, config.Mask(e.Value), fmt.Sprintf("%s line %d (revision %d)", n, e.Source.Line, v.Revision)}
		}
	}
	if len(found) == 0 {
		return &ui.Error{
			Code: "no_such_key", Message: fmt.Sprintf("no document says anything of %s to %s", key, name),
			Hint: "what a service has of its file, its environment and its defaults is on its /debug/config",
		}
	}
	for _, k := range order {
		e := found[k]
		line := plain(e.Value)
		if k != key {
			line = k + ": " + line
		}
		if !s.printer.JSON() {
			s.printer.Notef("%s from %s", k, e.Source)
		}
		if err := s.printer.Data(line, e); err != nil {
			return err
		}
	}
	return s.printer.Result("", map[string]any{"type": "result", "ok": true, "document": name, "keys": len(order)})
}
