package project

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"golang.org/x/mod/modfile"
)

// FrameworkModule is the module path of the framework.
const FrameworkModule = "plinth.internal"

// FrameworkEnv is the environment variable that names a checkout of the framework to build new services with.
const FrameworkEnv = "SCAFFOLD_FRAMEWORK"

// Framework is what a new service builds with: a released version, or a checkout.
type Framework struct {
	Version string // the release, such as v0.1.0; "" for a checkout
	Sum     string // the release's hash, as in go.sum
	Dir     string // the checkout, absolute; "" for a release
}

// ErrNoFramework says that neither a release nor a checkout of the framework was found.
var ErrNoFramework = errors.New("no framework to build with")

// Release returns the version and the hash that this program was built from, and false when it was built from a checkout.
func Release() (version, sum string, ok bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != FrameworkModule || info.Main.Sum == "" {
		return "", "", false
	}
	return info.Main.Version, info.Main.Sum, true
}

// FindFramework decides what new services build with. The first that applies wins: dir (it must be a checkout; "" is not given), the
// directory in [FrameworkEnv] (likewise), the release that this program was built from, the checkout it was built from, the checkout around
// the working directory. It returns an error that wraps [ErrNoFramework] when there is none.
func FindFramework(dir string) (Framework, error) {
	version, sum, released := Release()
	_, source, _, ok := runtime.Caller(0)
	if !ok {
		source = ""
	}
	working, err := os.Getwd()
	if err != nil {
		working = ""
	}
	return locator{
		flag: dir, env: os.Getenv(FrameworkEnv), version: version, sum: sum, released: released, source: source, working: working,
	}.find()
}

// locator has everything that the search depends on.
type locator struct {
	flag, env       string
	version, sum    string
	released        bool
	source, working string
}

func (l locator) find() (Framework, error) {
	for _, named := range []struct{ dir, by string }{{l.flag, "--framework"}, {l.env, FrameworkEnv}} {
		if named.dir == "" {
			continue
		}
		dir, err := filepath.Abs(named.dir)
		if err != nil {
			return Framework{}, fmt.Errorf("resolve %s: %w", named.by, err)
		}
		if !isCheckout(dir) {
			return Framework{}, fmt.Errorf("%s=%s has no go.mod of module %s: %w", named.by, named.dir, FrameworkModule, ErrNoFramework)
		}
		return Framework{Dir: dir}, nil
	}
	if l.released {
		return Framework{Version: l.version, Sum: l.sum}, nil
	}
	// A binary built with -trimpath has a source path that is not absolute; one that was moved to another machine has one that is not there.
	for _, start := range []string{filepath.Dir(l.source), l.working} {
		if !filepath.IsAbs(start) {
			continue
		}
		for at := start; ; at = filepath.Dir(at) {
			if isCheckout(at) {
				return Framework{Dir: at}, nil
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return Framework{}, fmt.Errorf("this scaffold was not built from a release, and there is no checkout of %s where it was built or around here: %w", FrameworkModule, ErrNoFramework)
}

func isCheckout(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && modfile.ModulePath(b) == FrameworkModule
}
