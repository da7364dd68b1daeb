package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func run(t *testing.T, ctx context.Context, asJSON bool, err error) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := &cobra.Command{}
	JSONFlag(cmd)
	if asJSON {
		if err := cmd.Flags().Set("json", "true"); err != nil {
			t.Fatal(err)
		}
	}
	cmd.SetContext(ctx)
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	code = Report(cmd, err)
	return code, out.String(), errOut.String()
}

func TestReport(t *testing.T) {
	full := &Error{Code: "bad_name", Message: `"1x" cannot be a name`, Hint: "scaffold new x", Path: "1x", Exit: ExitUsage}
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupt signal received"))
	tests := []struct {
		name       string
		ctx        context.Context
		json       bool
		err        error
		code       int
		out, inErr []string
	}{
		{name: "nil", code: 0},
		{name: "plain error", err: errors.New("read x: gone"), code: 1, inErr: []string{"error: read x: gone", "[failed]"}},
		{name: "wrapped", err: fmt.Errorf("outer: %w", full), code: 2, inErr: []string{"[bad_name]", "\n  hint: scaffold new x"}},
		{
			name: "detail before hint", err: &Error{Code: "c", Message: "m", Detail: []string{"  14 | x", "     | ^"}, Hint: "h"}, code: 1,
			inErr: []string{"[c]\n  14 | x\n     | ^\n  hint: h"},
		},
		{name: "joined, first decides", err: errors.Join(full, errors.New("more")), code: 2, inErr: []string{"[bad_name]", "error: more"}},
		{name: "one line", err: fmt.Errorf("write: %w", errors.Join(errors.New("a"), errors.New("b"))), code: 1, inErr: []string{"error: write: a; b "}},
		{name: "interrupted", ctx: interrupted, err: context.Canceled, code: 1, inErr: []string{"error: interrupted: interrupt signal received ", "[interrupted]"}},
		{name: "interrupted, but it has a code", ctx: interrupted, err: full, code: 2, inErr: []string{"[bad_name]"}},
		{name: "an outcome", err: &Error{Code: "differs", Message: "m", Exit: ExitDiffers, Outcome: true}, code: 3},
		{name: "json, an outcome", json: true, err: &Error{Code: "differs", Message: "m", Outcome: true}, code: 1},
		{name: "json, reported", json: true, err: &Error{Code: "calls_failed", Message: "m", Reported: true}, code: 1},
		{
			name: "json", json: true, err: full, code: 2,
			out: []string{`{"type":"error","code":"bad_name","message":"\"1x\" cannot be a name","hint":"scaffold new x","path":"1x"}`, `{"type":"result","ok":false,"code":"bad_name"}`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errOut := run(t, tt.ctx, tt.json, tt.err)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if len(tt.inErr) == 0 && errOut != "" {
				t.Errorf("stderr %q, want nothing", errOut)
			}
			for _, want := range tt.inErr {
				if !strings.Contains(errOut, want) {
					t.Errorf("stderr misses %q:\n%s", want, errOut)
				}
			}
			if want := strings.Join(tt.out, "\n"); strings.TrimSpace(out) != want {
				t.Errorf("stdout\n%s\nwant\n%s", out, want)
			}
			if tt.json && errOut != "" {
				t.Errorf("stderr in JSON mode: %s", errOut)
			}
		})
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 keys", 1: "1 key", 2: "2 keys"} {
		if got := Count(n, "key"); got != want {
			t.Errorf("Count(%d): %q, want %q", n, got, want)
		}
	}
}
