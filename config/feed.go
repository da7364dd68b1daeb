package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// MaxDocument is the size of the largest document of a feed, in bytes. A document
// says what differs from the file, and so is small; the bound keeps a mistake out
// of every process at once.
const MaxDocument = 256 << 10

// What the error of a document is that was never read.
var (
	// ErrPending says that the answer may come any moment, and is worth waiting for.
	ErrPending = errors.New("there is no answer yet")
	// ErrUnreachable says that nobody answers there.
	ErrUnreachable = errors.New("it does not answer")
)

// Feed is a place outside of the process that holds documents and tells when they
// change. config/etcd is one.
//
// An implementation follows the place for ever by itself and keeps what it saw
// last while the place cannot be reached. Its methods return at once and may be
// called from any goroutine; whoever opened it closes it.
type Feed interface {
	// Documents are the documents as they were seen last, lowest precedence first.
	// Their number, order and names never change.
	Documents() []Document
	// Changed returns a channel that is closed when Documents or Err gives something
	// else than at the time of the call.
	Changed() <-chan struct{}
	// Err is why the place cannot be reached now; nil while it can. What Documents
	// gives does not depend on it.
	Err() error
}

// Document is a YAML text of a [Feed].
type Document struct {
	// Name is what a person looks it up by, such as "etcd /plinth/config/orders".
	Name string
	// Shared says that other services read it, too: keys that are not this one's
	// are no mistakes in it.
	Shared bool
	// Data is the text; one that is empty or nil sets nothing.
	Data []byte
	// Revision is the version of the text, 0 where there is none.
	Revision int64
	// Err is why it is not known what the document holds; nil where it is. Then
	// what was good last stays in use.
	Err error
}

// Central is a feed and how its documents are used. See [Config.Attach].
type Central struct {
	// Feed is where the documents come from.
	Feed Feed
	// Snapshot is the file that keeps the last good documents for a start without
	// the feed; "" keeps none.
	Snapshot string
	// Sections are the first parts of keys that every service knows: below them an
	// unknown key is a mistake in a shared document as well.
	Sections []string
}

// Attach puts the documents of a feed above all other layers. They are used from
// [Config.Settle] on. It errs where there is a feed already, or this one has no
// documents.
//
// They may set hot keys only. A cold key in them is an error, and so is an unknown
// one; but in a shared document unknown keys outside of c's sections are ignored,
// and listed in [Status]. Each document is taken wholly or not at all, together
// with all that is in use beside it: while one is bad, its last good text stays in
// use, and the others and the file change all the same. A document that is deleted
// sets nothing any more.
//
// Call it once, before Settle, Reload and Follow.
func (c *Config) Attach(central Central) error {
	if c.central.Feed != nil {
		return errors.New("attach a feed to the configuration: there is one already")
	}
	documents := central.Feed.Documents()
	if len(documents) == 0 {
		return errors.New("attach a feed to the configuration: it has no documents")
	}
	c.reloading.Lock()
	defer c.reloading.Unlock()
	c.central = central
	texts := make([]text, len(documents)) // until it settles they set nothing
	for _, d := range documents {
		c.documents = append(c.documents, document{source: Source{Kind: KindFeed, Name: d.Name}, feed: true, shared: d.Shared})
	}
	c.kept = texts
	c.offered = append(slices.Clip(c.offered), texts...)
	for {
		old := c.state.Load()
		next := *old
		next.texts = append(slices.Clip(old.texts), texts...)
		if c.state.CompareAndSwap(old, &next) {
			return nil
		}
	}
}

// strays looks at what the feed's documents set and nobody took as a hot key: an
// error, or in a shared document most often another service's business.
func (c *Config) strays(s *state) (ignored []Entry, err error) {
	var errs []error
	for _, l := range s.central {
		for key, it := range l.items {
			if s.used[it] || it.isNull {
				continue
			}
			known, section := s.find(key)
			switch {
			case known:
				errs = append(errs, &Error{Source: it.source, Key: key, Problem: "is read at the start only, and so cannot be set here; set it in the file, the environment or a flag, and restart"})
			case section:
				errs = append(errs, &Error{Source: it.source, Key: key, Problem: "is a plain value, want keys below " + key})
			case l.shared && !slices.ContainsFunc(c.central.Sections, func(s string) bool { return key == s || strings.HasPrefix(key, s+".") }):
				ignored = append(ignored, Entry{Key: key, Source: it.source})
			default:
				errs = append(errs, unknownKey(it.source, key, s.entries))
			}
		}
	}
	slices.SortFunc(ignored, byKey)
	return ignored, errors.Join(sorted(errs)...)
}

// find tells whether anything that was bound has such a key, or keys below it.
func (s *state) find(key string) (known, section bool) {
	for _, b := range s.bindings {
		rest := key
		if b.path != "" {
			var below bool
			if rest, below = strings.CutPrefix(key, b.path+"."); !below {
				section = section || b.path == key || strings.HasPrefix(b.path, key+".")
				continue
			}
		}
		if k, _ := findKey(b.typ, rest, b.allHot, b.watch); k {
			return true, false
		}
		section = section || isSection(b.typ, rest)
	}
	return false, section
}

// isSection reports a path that has keys below it in a struct.
func isSection(t reflect.Type, path string) bool {
	for _, f := range fields(t) {
		if path == f.key {
			return !isPlain(f.Type)
		}
		if rest, below := strings.CutPrefix(path, f.key+"."); below && f.Type.Kind() == reflect.Struct && !isPlain(f.Type) {
			return isSection(f.Type, rest)
		}
	}
	return false
}

// named is a document as a log line tells of it.
func (d document) named(t text) string {
	if !d.feed {
		return d.source.Name
	}
	switch {
	case t.revision == 0:
		return d.source.Name + " (none)"
	case !t.kept.IsZero():
		return fmt.Sprintf("%s (revision %d, kept on disk since %s)", d.source.Name, t.revision, stamp(t.kept))
	}
	return fmt.Sprintf("%s (revision %d)", d.source.Name, t.revision)
}
