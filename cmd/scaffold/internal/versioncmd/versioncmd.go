// Package versioncmd is `scaffold version`: which release this program was built from, and with which Go.
package versioncmd

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/project"
	"plinth.internal/cmd/scaffold/internal/ui"
)

type result struct {
	Type    string `json:"type"`
	OK      bool   `json:"ok"`
	Version string `json:"version"`
	Go      string `json:"go"`
}

// NewCommand returns `scaffold version`.
func NewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  ui.Arguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version, _, released := project.Release()
			if !released {
				version = "from a checkout"
			}
			return ui.NewPrinter(cmd).Result(fmt.Sprintf("scaffold %s (%s)", version, runtime.Version()), result{"result", true, version, runtime.Version()})
		},
	}
	ui.JSONFlag(cmd)
	return cmd
}
