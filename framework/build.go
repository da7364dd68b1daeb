package framework

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
)

const modulePath = "plinth.internal"

// buildVersion is the version of the main module: the one it was released as,
// else the commit it was built from, else "devel".
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "devel"
}

// metadataFramework is the key of the metadata that the framework registers itself.
const metadataFramework = "framework"

// registered is an instance's metadata: what the configuration says, and the
// version of Plinth.
func registered(configured map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, configured)
	all[metadataFramework] = frameworkVersion()
	return all
}

// frameworkVersion is the version of Plinth that is built in.
func frameworkVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if info.Main.Path == modulePath {
		return buildVersion()
	}
	for _, m := range info.Deps {
		if m.Path == modulePath {
			if m.Replace != nil {
				return cmp.Or(m.Replace.Version, "devel")
			}
			return m.Version
		}
	}
	return "devel"
}

func goVersion() string { return runtime.Version() }

// validService checks the name of a service, which becomes a part of registry keys,
// metric labels and host names.
func validService(name string) error {
	if name == documentDefault {
		return fmt.Errorf("%q cannot be the name of a service: it is that of the central configuration for all services", name)
	}
	return validName("service", name)
}

// validName checks the name of something that is found by it elsewhere.
func validName(what, name string) error {
	bad := name == "" || len(name) > 63 || name[0] < 'a' || name[0] > 'z' || name[len(name)-1] == '-'
	for i := range len(name) {
		c := name[i]
		allowed := 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-'
		bad = bad || !allowed
	}
	if bad {
		return fmt.Errorf("%q cannot be the name of a %s: use a-z, 0-9 and -, start with a letter, at most 63 characters", name, what)
	}
	return nil
}
