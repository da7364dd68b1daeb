package framework

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestSnapshotDir(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the variables of the user's cache directory are others there")
	}
	etcdAt := func(endpoints string) Option { return WithSetting("registry.endpoints", endpoints) }
	tests := []struct {
		name    string
		environ []string
		dir     string
		want    string // a prefix
		off     int    // how often it is told that there are none
	}{
		{"home", []string{"HOME=/home/u"}, "", "/home/u/.cache/plinth/registry/", 0},
		{"cache home", []string{"HOME=/home/u", "XDG_CACHE_HOME=/var/cache/u"}, "", "/var/cache/u/plinth/registry/", 0},
		{"chosen", nil, "/var/lib/plinth", "/var/lib/plinth/", 0},
		{"off", []string{"HOME=/home/u"}, "off", "", 0},
		{"no home", nil, "", "", 1},
		{"a relative home", []string{"HOME=u"}, "", "", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			off := 0
			app, err := New("orders", func(context.Context, *Service) error { return nil },
				WithConfigFile(""), WithEnviron(tt.environ), WithLogOutput(t.Output()), etcdAt("127.0.0.1:1"),
				WithSetting("registry.snapshot_dir", tt.dir),
				WithEvents(func(e Event) {
					if _, ok := e.(SnapshotsOff); ok {
						off++
					}
				}))
			if err != nil {
				t.Fatal(err)
			}
			if off != tt.off {
				t.Errorf("told %d times that there are no snapshots, want %d", off, tt.off)
			}
			got := app.snapshotDir()
			if !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("the directory is %q, want it in %q", got, tt.want)
			}
			before := got
			app.settings.Registry.Endpoints = []string{"127.0.0.1:2"}
			if got := app.snapshotDir(); got == before && got != "" {
				t.Error("two registries share a directory")
			}
			if got != "" && !filepath.IsAbs(got) {
				t.Errorf("%q is relative", got)
			}
			if err := errors.Join(app.server.Close(), app.closeParts(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
}
