// Package config gives a process typed values that know where they came from.
//
// Values are layered, lowest first: the defaults in the code, a YAML file, the
// environment, the command line. [Load] reads the layers, [Bind] lays them over
// a struct, [Watch] does so for keys that are hot, and [Config.Unused] finds what
// nobody asked for. [Config.Follow] takes over changes of the file while the
// process runs; the environment and the command line stay. Above them all lie
// the documents of a [Feed], a place outside of the process, which may set hot
// keys only. Keys are paths of
// the struct's yaml tags ("server.grpc.addr"); the environment spells a key as
// PLINTH_SERVER_GRPC_ADDR, the command line as --server.grpc.addr=VALUE.
//
// Guarantees: an unknown key, a key given twice and a value that does not fit
// are errors ([Error]) that name the source, the line, the key, the value and
// what was wanted; all of them are reported at once; a struct is bound wholly or
// not at all, and a changed file or document is taken in one step for all structs
// or not at all; one that is bad holds up no other; a [Secret] is never shown, and
// neither is what a URL keeps secret, see [Mask]. A Config may be read by any
// number of goroutines; it starts none.
package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"plinth.internal/internal/typo"
)

// Source is where a value came from.
type Source struct {
	// Kind is default, file, env, flag or feed.
	Kind string
	// Name is the file's path, the variable's name, the flag or the document.
	Name string
	// Line is the line in a file or a document, counted from 1; 0 for all of it.
	Line int
	// Revision is the version of a feed's document, 0 elsewhere.
	Revision int64
}

// The kinds of source, lowest precedence first.
const (
	KindDefault = "default"
	KindFile    = "file"
	KindEnv     = "env"
	KindFlag    = "flag"
	KindFeed    = "feed"
)

// String names the place as a person would look it up.
func (s Source) String() string {
	switch s.Kind {
	case KindFile:
		if s.Line == 0 {
			return s.Name
		}
		return fmt.Sprintf("%s:%d", s.Name, s.Line)
	case KindEnv:
		return "environment variable " + s.Name
	case KindFlag:
		return "flag " + s.Name
	case KindFeed:
		text := s.Name
		if s.Line > 0 {
			text += fmt.Sprintf(" line %d", s.Line)
		}
		if s.Revision > 0 {
			text += fmt.Sprintf(" (revision %d)", s.Revision)
		}
		return text
	}
	return KindDefault
}

// Error is one thing that is wrong with a configuration.
type Error struct {
	// Source is where the value was given; where it was not, the nearest that was.
	Source Source
	// Key is the key's path.
	Key string
	// Value is what was given; "" for a problem of the key itself.
	Value string
	// Empty says that Value is "" because that was given.
	Empty bool
	// Problem says what is wrong and what is wanted.
	Problem string

	passing bool // see InvalidNow
}

// Is tells whether the error is of a kind that this package knows.
func (e *Error) Is(target error) bool { return target == errPassing && e.passing }

// Error is one sentence with the place, the key, the value and the problem,
// through [Mask].
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Source.String())
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key)
		b.WriteString(": ")
	}
	if e.Value != "" || e.Empty {
		b.WriteString(strconv.Quote(e.Value))
		b.WriteByte(' ')
	}
	b.WriteString(e.Problem)
	return Mask(b.String())
}

// Config is the layers of one process, and everything that was bound to them.
type Config struct {
	// Set by Load and Attach, before anything is reloaded.
	documents []document // the file's, if there is one, and then the feed's
	files     int        // how many of them are files
	central   Central    // the zero value for none

	state  atomic.Pointer[state]
	status atomic.Pointer[Status]

	reloading sync.Mutex // held by the one reload that runs
	offered   []text     // what the documents held when last read; guarded by reloading, never changed but replaced
	kept      []text     // what the snapshot holds, by document of the feed; likewise

	mu         sync.Mutex
	queue      []func() // calls of OnChange functions that are due, guarded by mu
	delivering bool     // somebody is making them, guarded by mu
}

// state is all that readers see. It is never changed, only replaced.
type state struct {
	start    layers // as loaded: where cold keys have their values from
	current  layers // of the last reading that was good: where hot keys have theirs from
	central  layers // of the feed's documents, for hot keys alone
	texts    []text // of that reading, by document
	bindings []*binding
	values   []any            // by binding: a pointer to its struct
	entries  map[string]entry // by key path: the effective values of what was bound
	used     map[*item]bool   // of current and central
	restart  []string         // cold keys that have other values in current
	ignored  []Entry          // keys of shared documents that are others' business
}

// Entry is one effective value.
type Entry struct {
	// Key is the key's path.
	Key string
	// Value is the value as it would be written, through [Mask], a secret as "***".
	Value string
	// Source is where it came from.
	Source Source
	// Hot says that a change applies while the process runs.
	Hot bool
}

// entry is an Entry and the value itself, which may be secret.
type entry struct {
	Entry

	value any
}

// Option adds a layer.
type Option func(*loader)

type loader struct {
	path     string
	required bool
	environ  []string
	flags    []string
}

// WithFile reads a YAML file. One that does not exist is an error only where it
// is required.
func WithFile(path string, required bool) Option {
	return func(l *loader) { l.path, l.required = path, required }
}

// WithEnviron reads the variables that begin with EnvPrefix out of a list as
// os.Environ gives it.
func WithEnviron(environ []string) Option { return func(l *loader) { l.environ = environ } }

// WithFlags reads settings of the form "key.path=value", without dashes.
func WithFlags(settings []string) Option { return func(l *loader) { l.flags = settings } }

// Load reads the layers. It errs on a file that cannot be read or is not YAML
// and on settings without a value; what the values mean is not known before
// [Bind].
func Load(opts ...Option) (*Config, error) {
	var l loader
	for _, o := range opts {
		o(&l)
	}
	c := &Config{}
	var all layers
	var errs []error
	if l.path != "" {
		c.documents = []document{{layer: len(all), source: Source{Kind: KindFile, Name: l.path}, required: l.required}}
		c.files = 1
		all = append(all, layer{})
	}
	all = append(all, readEnviron(l.environ))
	flags, err := readFlags(l.flags)
	all = append(all, flags)
	texts := c.readFiles()
	all, _, fileErr := c.parse(all, texts, nil)
	errs = append(errs, fileErr, err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for i, t := range texts {
		c.documents[i].absent = t.missing()
	}
	c.offered = texts
	c.state.Store(&state{start: all, current: all, texts: texts, entries: map[string]entry{}, used: map[*item]bool{}})
	c.status.Store(&Status{})
	return c, nil
}

// Entries are the effective values of everything that was bound, sorted by key.
func (c *Config) Entries() []Entry {
	entries := c.state.Load().entries
	out := make([]Entry, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Entry)
	}
	slices.SortFunc(out, byKey)
	return out
}

func byKey(a, b Entry) int { return strings.Compare(a.Key, b.Key) }

// Unused reports the values that were given but that no [Bind] asked for, which
// are most often misspelt. Call it when everything is bound.
func (c *Config) Unused() error {
	return c.state.Load().unused()
}

func unknownKey(src Source, key string, entries map[string]entry) error {
	problem := "is not a known key"
	if _, rest, ok := strings.Cut(key, "/"); ok { // as in methods.billing.v1.Billing/Charge.timeout
		name, _, _ := strings.Cut(rest, ".")
		return &Error{Source: src, Key: key, Problem: problem + ": dots divide keys, and so a method is named without its package and service, as in " + name}
	}
	if best := typo.Nearest(key, maps.Keys(entries)); best != "" {
		problem += ", did you mean " + best + "?"
	}
	return &Error{Source: src, Key: key, Problem: problem}
}
