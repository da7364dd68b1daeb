package framework

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	configetcd "plinth.internal/config/etcd"
	"plinth.internal/registry"
	"plinth.internal/registry/dns"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/static"
)

// snapshotsOff is the value of registry.snapshot_dir for none.
const snapshotsOff = "off"

// openRegistry opens the configured registry, or takes the one that was given;
// own says which.
func (a *App) openRegistry() (reg *registry.Registry, own bool, err error) {
	if a.opts.registry != nil {
		return a.opts.registry, false, nil
	}
	r := a.settings.Registry
	opts := []registry.Option{registry.WithEvents(func(e registry.Event) { a.emit(RegistryEvent{e}) })}
	if r.kind() == kindStatic {
		if reg, err = openStatic(r, opts); err != nil {
			return nil, false, &configError{err}
		}
		return reg, true, nil
	}
	fallback, err := static.Instances(r.Static)
	if err != nil {
		return nil, false, &configError{fmt.Errorf("registry.static: %w", err)}
	}
	a.snapshots = a.snapshotDir()
	opts = append(opts, registry.WithTTL(r.TTL), registry.WithSnapshots(a.snapshots), registry.WithFallback(fallback))
	if r.kind() == kindDNS {
		reg, err := dns.Open(r.DNS.Name, dns.WithServer(r.DNS.Server), dns.WithRegistry(opts...))
		if err != nil {
			return nil, false, &configError{fmt.Errorf("registry.dns: %w", err)}
		}
		return reg, true, nil
	}
	etcdClient, err := etcd.Dial(etcd.Config{
		Endpoints: r.Endpoints, Username: r.Username, Password: string(r.Password),
		CAFile: r.TLS.CAFile, CertFile: r.TLS.CertFile, KeyFile: r.TLS.KeyFile,
	})
	if err != nil {
		return nil, false, &configError{fmt.Errorf("registry.endpoints: %w", err)}
	}
	a.backend = etcdClient
	a.newElector = func() (registry.Elector, io.Closer) {
		e := etcd.NewElector(etcdClient, etcd.WithNamespace(r.Namespace), etcd.WithElectionTTL(r.TTL))
		return e, e
	}
	a.openFeed = func() ownFeed { return configetcd.Open(etcdClient, a.name, configetcd.WithNamespace(r.Namespace)) }
	return etcd.Open(etcdClient, etcd.WithNamespace(r.Namespace), etcd.WithRegistry(opts...)), true, nil
}

func openStatic(r registrySettings, opts []registry.Option) (*registry.Registry, error) {
	if r.StaticFile != "" {
		reg, err := static.OpenFile(r.StaticFile, opts...)
		if err != nil {
			return nil, fmt.Errorf("registry.static_file: %w", err)
		}
		return reg, nil
	}
	reg, err := static.Open(r.Static, opts...)
	if err != nil {
		return nil, fmt.Errorf("registry.static: %w", err)
	}
	return reg, nil
}

// snapshotDir is where the last good lists are kept, "" for nowhere. Registries
// at different endpoints have directories of their own: a process that starts
// while one of them is down must not call the instances of another.
func (a *App) snapshotDir() string {
	dir := a.settings.Registry.SnapshotDir
	switch dir {
	case snapshotsOff:
		return ""
	case "":
		cache, err := cacheDir(a.opts.environ)
		if err != nil {
			a.emit(SnapshotsOff{Err: err})
			return ""
		}
		dir = filepath.Join(cache, "plinth", "registry")
	}
	endpoints := slices.Sorted(slices.Values(a.settings.Registry.Endpoints))
	sum := sha256.Sum256([]byte(strings.Join(endpoints, "\n")))
	return filepath.Join(dir, hex.EncodeToString(sum[:6]))
}

// cacheDir is os.UserCacheDir for an environment that is given.
func cacheDir(environ []string) (string, error) {
	env := map[string]string{}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	var base string
	var below []string
	switch runtime.GOOS {
	case "windows":
		base = env["LocalAppData"]
	case "darwin", "ios":
		base, below = env["HOME"], []string{"Library", "Caches"}
	default:
		if base = env["XDG_CACHE_HOME"]; base == "" {
			base, below = env["HOME"], []string{".cache"}
		}
	}
	if !filepath.IsAbs(base) {
		return "", errors.New("find the user's cache directory: the environment names none")
	}
	return filepath.Join(append([]string{base}, below...)...), nil
}

// OverrideHealth is what an operator wants of the instance.
type OverrideHealth struct {
	// State is draining where the instance was taken out of rotation.
	State string `json:"state,omitempty"`
	// Weight is the weight that was set, 0 for none.
	Weight int `json:"weight,omitempty"`
}

func overrideHealth(o *registry.Override) *OverrideHealth {
	if o == nil {
		return nil
	}
	return &OverrideHealth{State: string(o.State), Weight: o.Weight}
}

// measureViews brings the gauges of the lists in use up to date.
func (a *App) measureViews(now time.Time) {
	for _, v := range a.client.Views() {
		age := now.Sub(v.At)
		if v.At.IsZero() { // a fallback, which nobody has ever confirmed
			age = now.Sub(a.started)
		}
		a.metrics.SetView(v.Service, age, map[string]int{
			"up": v.Up, "draining": v.Draining, "quarantined": v.Quarantined,
		})
	}
}
