package client

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"plinth.internal/internal/tlsfiles"
)

// tlsKeeper keeps the files for TLS in use that the settings name. One goroutine
// follows them all, from the first connection on that needs some.
type tlsKeeper struct {
	start sync.Once

	mu   sync.Mutex
	sets map[tlsfiles.Files]*tlsfiles.Set
}

// set returns the set for files, and errs if they were never good.
func (k *tlsKeeper) set(c *Client, files tlsfiles.Files) (*tlsfiles.Set, error) {
	k.mu.Lock()
	s := k.sets[files]
	if s == nil {
		s = tlsfiles.New(files)
		if k.sets == nil {
			k.sets = map[tlsfiles.Files]*tlsfiles.Set{}
		}
		k.sets[files] = s
	}
	k.mu.Unlock()
	k.start.Do(func() { c.watch(func(ctx context.Context) { k.follow(ctx, c) }) })
	if s.Current() == nil {
		if err := s.Refresh(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// follow reads the files until ctx ends. Those that no settings name any more are
// given up.
func (k *tlsKeeper) follow(ctx context.Context, c *Client) {
	tlsfiles.Follow(ctx, func() []*tlsfiles.Set {
		used := c.tlsUse()
		k.mu.Lock()
		defer k.mu.Unlock()
		maps.DeleteFunc(k.sets, func(f tlsfiles.Files, _ *tlsfiles.Set) bool { return used[f] == nil })
		return slices.Collect(maps.Values(k.sets))
	}, func(s *tlsfiles.Set, err error) {
		services := c.tlsUse()[s.Files()]
		if m := s.Current(); err != nil {
			kept := m != nil && m.Valid(time.Now()) == nil || m == nil && c.protectedOnce(services)
			c.options.events(TLSRejected{Services: services, Files: s.Files().String(), Err: err, Kept: kept})
			return
		}
		c.options.events(TLSReloaded{Services: services, Files: s.Files().String(), NotAfter: s.Current().NotAfter()})
	})
}

// protectedOnce reports whether all of some services have files in use from
// before.
func (c *Client) protectedOnce(services []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(services, func(name string) bool { return c.services[name].protected.Load() == nil })
}

// good reports whether files were good once.
func (k *tlsKeeper) good(files tlsfiles.Files) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sets[files]
	return s != nil && s.Current() != nil
}

// tlsUse is which services the settings name files for.
func (c *Client) tlsUse() map[tlsfiles.Files][]string {
	c.mu.Lock()
	services := maps.Clone(c.services)
	c.mu.Unlock()
	use := map[tlsfiles.Files][]string{}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		files := c.options.settings(name, "").TLS.files()
		if files == (tlsfiles.Files{}) {
			continue
		}
		use[files] = append(use[files], name)
		// Until they are good for the first time others may stay in use.
		if last := services[name].protected.Load(); last != nil && last.set != nil && last.set.Files() != files && !c.tls.good(files) {
			use[last.set.Files()] = append(use[last.set.Files()], name)
		}
	}
	return use
}

// TLSStatus is what is known of files that [TLS] names.
type TLSStatus struct {
	// Services are those that they are for.
	Services []string
	// Files are their names, separated by commas.
	Files string
	// NotAfter is when the certificate in use expires, zero for none.
	NotAfter time.Time
	// RenewBy is when it should have been renewed: seven days before, or a third
	// of its life if that is less.
	RenewBy time.Time
	// Err is why what the files hold is not in use, or why what is in use is
	// of no use any more; nil while all is well.
	Err error
}

// TLSStatus tells of the files for TLS that were read, sorted by their names: for
// the services that were connected to.
func (c *Client) TLSStatus() []TLSStatus {
	use, now := c.tlsUse(), time.Now()
	c.tls.mu.Lock()
	defer c.tls.mu.Unlock()
	var out []TLSStatus
	for files, s := range c.tls.sets {
		if services := use[files]; services != nil {
			m := s.Current()
			out = append(out, TLSStatus{Services: services, Files: files.String(), NotAfter: m.NotAfter(), RenewBy: m.RenewBy(), Err: s.Err(now)})
		}
	}
	slices.SortFunc(out, func(a, b TLSStatus) int { return strings.Compare(a.Files, b.Files) })
	return out
}
