// Package ui is how every scaffold command speaks: data on standard output, progress and errors on standard error, and one
// shape of error with a code that programs can match, a place and a next step.
//
// With --json standard output carries one object a line and nothing else. Its last line is always
// {"type":"result","ok":...}, whatever went wrong before. Text is plain: no colour, no cursor movement, the same on a terminal and in
// a file, except that ps --watch draws over its last list on a terminal. Nothing here exits: [Report] returns the exit code, and main uses it.
package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of the command line. Programs rely on them.
const (
	ExitOK      = 0 // done
	ExitFailed  = 1 // could not be done; nothing was left half-made
	ExitUsage   = 2 // the command was called wrongly
	ExitDiffers = 3 // a check found something out of date
)

// Error is a failure as a person or a program reads it.
type Error struct {
	Code    string   // stable and short, such as target_not_empty; never empty
	Message string   // what is wrong, without a full stop
	Detail  []string // lines shown below the message, such as the source line; may be empty
	Hint    string   // the next step; may be empty
	Path    string   // the file or directory it is about; may be empty
	Exit    int      // process exit code; 0 means [ExitFailed]

	// Reported says that the command has printed its own last line, which tells of the failure; [Report] adds nothing on standard output.
	Reported bool
	// Outcome says that nothing failed: it is one of the command's answers, which the command has printed, and has an exit code of its own.
	// [Report] prints nothing.
	Outcome bool
	Err     error // the cause; may be nil
}

// Error returns the message with its code.
func (e *Error) Error() string { return e.Message + " [" + e.Code + "]" }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Usage returns an error about how the command was called: exit code 2.
func Usage(message, hint string) *Error {
	return &Error{Code: "usage", Message: message, Hint: hint, Exit: ExitUsage}
}

// Count is a number of things: "1 key", "2 keys".
func Count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// Arguments holds the positional arguments against the Use line of the command: each word of it is one, and those in brackets may be left
// out. What is wrong is an error of usage that names the argument.
func Arguments(cmd *cobra.Command, args []string) error {
	names := strings.Fields(cmd.Use)[1:]
	form := cmd.CommandPath() + strings.TrimPrefix(cmd.Use, cmd.Name())
	for i, name := range names {
		switch {
		case i < len(args) && args[i] == "":
			return Usage(strings.Trim(name, "[]")+" is empty", form)
		case i >= len(args) && !strings.HasPrefix(name, "["):
			return Usage(name+" is missing", form)
		}
	}
	if len(args) > len(names) {
		return Usage(fmt.Sprintf("argument %q is one too many", args[len(names)]), form)
	}
	return nil
}

// UnknownCommand says that cmd has no command of a name, and which one was probably meant.
func UnknownCommand(cmd *cobra.Command, name string) error {
	message, hint := fmt.Sprintf("unknown command %q", name), cmd.CommandPath()+" --help"
	if cmd.HasParent() {
		message += fmt.Sprintf(" for %q", cmd.CommandPath())
	}
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		hint = cmd.CommandPath() + " " + near[0]
	}
	return Usage(message, hint)
}

// Printer writes the output of one command. Its zero value is not usable: see [NewPrinter].
type Printer struct {
	out, err io.Writer
	json     bool
}

// NewPrinter returns a Printer on the command's streams, in JSON mode when the command has a --json flag that is set.
func NewPrinter(cmd *cobra.Command) *Printer {
	f := cmd.Flags().Lookup("json")
	return &Printer{out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(), json: f != nil && f.Value.String() == "true"}
}

// JSON reports whether programs read the output.
func (p *Printer) JSON() bool { return p.json }

// Data writes one line of output proper: text for a person, or object as JSON for a program.
func (p *Printer) Data(text string, object any) error {
	if !p.json {
		_, err := fmt.Fprintln(p.out, text)
		return err
	}
	return json.NewEncoder(p.out).Encode(object)
}

// Result writes the last line: text for a person (left out when empty), or object as JSON for a program. The object must say "type":"result".
func (p *Printer) Result(text string, object any) error {
	if !p.json && text == "" {
		return nil
	}
	return p.Data(text, object)
}

// Notef writes progress or a warning for a person to standard error. In JSON mode it is written there too, so that it is not lost.
func (p *Printer) Notef(format string, args ...any) {
	fmt.Fprintf(p.err, format+"\n", args...)
}

// JSONFlag adds --json to a command.
func JSONFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("json", false, "one JSON object a line on standard output, the last one the result")
}

// failure is the JSON form of an Error.
type failure struct {
	Type    string   `json:"type"`
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Detail  []string `json:"detail,omitempty"`
	Hint    string   `json:"hint,omitempty"`
	Path    string   `json:"path,omitempty"`
}

type result struct {
	Type string `json:"type"`
	OK   bool   `json:"ok"`
	Code string `json:"code"`
}

// Report shows what a command returned and gives the process's exit code. A nil error is 0 and prints nothing. Joined errors are shown one by
// one, and the first decides the code.
func Report(cmd *cobra.Command, err error) int {
	if err == nil {
		return ExitOK
	}
	p := NewPrinter(cmd)
	list := flatten(err)
	if ctx := cmd.Context(); ctx != nil && ctx.Err() != nil {
		interrupted(list, context.Cause(ctx))
	}
	for _, e := range list {
		if e.Outcome || p.json && e.Reported {
			continue
		}
		if p.json {
			_ = p.Data("", failure{"error", e.Code, e.Message, e.Detail, e.Hint, e.Path})
		} else {
			p.Notef("%s", render(e))
		}
	}
	first := list[0]
	if !first.Reported && !first.Outcome {
		_ = p.Result("", result{"result", false, first.Code})
	}
	if first.Exit == 0 {
		return ExitFailed
	}
	return first.Exit
}

// flatten returns the errors of a tree of joined errors; one that is no *Error gets [codeFailed].
func flatten(err error) []*Error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var list []*Error
		for _, e := range joined.Unwrap() {
			list = append(list, flatten(e)...)
		}
		if len(list) > 0 {
			return list
		}
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return []*Error{e}
	}
	return []*Error{{Code: codeFailed, Message: strings.ReplaceAll(err.Error(), "\n", "; "), Err: err}}
}

// interrupted gives errors that only follow from the interrupt the name of their cause.
func interrupted(list []*Error, cause error) {
	for _, e := range list {
		if e.Code == codeFailed {
			e.Code, e.Message = "interrupted", "interrupted: "+cause.Error()
		}
	}
}

// codeFailed is the code of errors that say none.
const codeFailed = "failed"

// codeColumn is where the code stands on a line that has room for it.
const codeColumn = 76

func render(e *Error) string {
	var b strings.Builder
	first := "error: " + e.Message
	fmt.Fprintf(&b, "%-*s [%s]", codeColumn, first, e.Code)
	for _, line := range e.Detail {
		b.WriteString("\n" + line)
	}
	if e.Hint != "" {
		b.WriteString("\n  hint: " + strings.ReplaceAll(e.Hint, "\n", "\n        "))
	}
	return b.String()
}
