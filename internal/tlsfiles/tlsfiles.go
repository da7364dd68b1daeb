// Package tlsfiles keeps in use what PEM files hold for TLS: the roots, a
// certificate and its key. The files are taken together or not at all, because
// whoever renews them replaces one after the other: while one of them is missing,
// or does not match the others, what they held before stays in use.
//
// A [Set] reads when it is told to: for each handshake ([Set.Refresh]), or all the
// time ([Set.Poll], [Follow]). Its methods may be called concurrently. Nothing
// here starts a goroutine.
package tlsfiles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// PollInterval is how often [Follow] reads the files.
const PollInterval = 250 * time.Millisecond

// Files names PEM files; "" stands for none.
type Files struct {
	// CA holds the roots that the other end's certificate must come from.
	CA string
	// Cert and Key are what is shown to the other end: both or neither.
	Cert, Key string
}

// String names the files that are there.
func (f Files) String() string {
	var names []string
	for _, name := range []string{f.CA, f.Cert, f.Key} {
		if name != "" {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Material is what files hold. It is never changed.
type Material struct {
	// Roots are those of CA, nil for none.
	Roots *x509.CertPool
	// Certificate is that of Cert, with its Leaf, nil for none.
	Certificate *tls.Certificate

	files Files
}

// Valid errs if the certificate has expired or is not valid yet.
func (m *Material) Valid(now time.Time) error {
	if m == nil || m.Certificate == nil {
		return nil
	}
	leaf := m.Certificate.Leaf
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("use certificate from %s: it has expired at %s: renew it", m.files.Cert, leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("use certificate from %s: it is valid from %s on only: look at the clocks of this machine and of the authority",
			m.files.Cert, leaf.NotBefore.Format(time.RFC3339))
	}
	return nil
}

// NotAfter is when the certificate expires, zero without one.
func (m *Material) NotAfter() time.Time {
	if m == nil || m.Certificate == nil {
		return time.Time{}
	}
	return m.Certificate.Leaf.NotAfter
}

// RenewBy is the time from which on the certificate should have been renewed: seven
// days before it expires, or a third of its life if that is less; zero without one.
func (m *Material) RenewBy() time.Time {
	if m == nil || m.Certificate == nil {
		return time.Time{}
	}
	leaf := m.Certificate.Leaf
	return leaf.NotAfter.Add(-min(7*24*time.Hour, leaf.NotAfter.Sub(leaf.NotBefore)/3))
}

// Read reads the files. It errs if one cannot be read, holds nothing of what it
// should, or does not match the others.
func Read(f Files) (*Material, error) {
	c, err := read(f)
	if err != nil {
		return nil, err
	}
	return parse(f, c)
}

// content is what the files hold, to be compared.
type content struct{ ca, cert, key, err string }

func read(f Files) (content, error) {
	var c content
	if (f.Cert == "") != (f.Key == "") {
		return content{err: "half"}, errors.New("certificate and key: must both be given, or neither")
	}
	for _, part := range []struct {
		name string
		into *string
	}{{f.CA, &c.ca}, {f.Cert, &c.cert}, {f.Key, &c.key}} {
		if part.name == "" {
			continue
		}
		b, err := os.ReadFile(part.name)
		if err != nil {
			return content{err: err.Error()}, fmt.Errorf("read a file for TLS: %w", err)
		}
		*part.into = string(b)
	}
	return c, nil
}

func parse(f Files, c content) (*Material, error) {
	m := &Material{files: f}
	if f.CA != "" {
		roots, err := certificates(c.ca)
		if err != nil {
			return nil, fmt.Errorf("read roots from %s: %w", f.CA, err)
		}
		m.Roots = x509.NewCertPool()
		for _, root := range roots {
			m.Roots.AddCert(root)
		}
	}
	if f.Cert != "" {
		chain, err := certificates(c.cert)
		if err != nil {
			return nil, fmt.Errorf("read certificate from %s: %w", f.Cert, err)
		}
		pair, err := tls.X509KeyPair([]byte(c.cert), []byte(c.key))
		if err != nil {
			return nil, fmt.Errorf("read certificate from %s and key from %s: %w", f.Cert, f.Key, err)
		}
		pair.Leaf = chain[0] // not there with the setting x509keypairleaf=0
		m.Certificate = &pair
	}
	return m, nil
}

// Set is files, and what they held when they were last good.
type Set struct {
	files   Files
	current atomic.Pointer[Material] // nil until they were good once

	mu   sync.Mutex
	last content // as read last
	told news    // what Poll has told last, or Refresh has taken first
	err  error   // why what they hold is not in use
}

// news is what became of some content.
type news struct {
	content content
	err     string
}

// New returns a set whose files were not read yet.
func New(f Files) *Set { return &Set{files: f} }

// Files are the names.
func (s *Set) Files() Files { return s.files }

// Current is what the files held when they were last good, nil if they never
// were.
func (s *Set) Current() *Material { return s.current.Load() }

// Err is why what the files hold is not in use, or why what is in use is of no
// use any more; nil while all is well.
func (s *Set) Err(now time.Time) error {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if m := s.current.Load(); err == nil && m != nil {
		err = m.Valid(now)
	}
	return err
}

// Refresh reads the files now and takes what they hold. If that is not good it
// returns why, and what was in use stays so.
func (s *Set) Refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := read(s.files)
	s.last = c
	var m *Material
	if err == nil {
		m, err = parse(s.files, c)
	}
	s.takeLocked(m, err)
	if err == nil && s.told == (news{}) {
		s.told.content = c
	}
	return err
}

// Poll reads the files, and takes or rejects what they hold once two readings in
// a row have found the same: half of a change is left alone. A certificate that
// is not valid now is rejected as well, be it new or the one in use, whose time
// has come. It reports whether there is news, and as err what was rejected; nil
// for what was taken.
func (s *Set) Poll(now time.Time) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := read(s.files)
	settled := c == s.last
	s.last = c
	if !settled || s.err == nil && s.told == (news{content: c}) && s.current.Load().Valid(now) == nil {
		return false, nil
	}
	var m *Material
	if err == nil {
		m, err = parse(s.files, c)
	}
	if err == nil {
		err = m.Valid(now)
	}
	// What was rejected is looked at again each time: time alone makes a
	// certificate valid.
	s.takeLocked(m, err)
	told := news{c, text(err)}
	changed = told != s.told
	s.told = told
	return changed, err
}

func (s *Set) takeLocked(m *Material, err error) {
	s.err = err
	if err == nil {
		s.current.Store(m)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Follow polls sets every [PollInterval] until ctx ends, so that a change is in
// use after two intervals at most. It calls sets for each round, and tell for
// news, as [Set.Poll] has them.
func Follow(ctx context.Context, sets func() []*Set, tell func(*Set, error)) {
	ticker := time.NewTicker(PollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, s := range sets() {
			if changed, err := s.Poll(time.Now()); changed {
				tell(s, err)
			}
		}
	}
}
