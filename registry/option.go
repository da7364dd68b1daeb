package registry

import "time"

const (
	// DefaultTTL is how long an entry outlives its process.
	DefaultTTL = 10 * time.Second
	// MinTTL is the shortest TTL: below it, a pause of the process or a change
	// of the backend's leader would look like a crash.
	MinTTL = time.Second
	// OperationTimeout bounds every single attempt to reach the backend.
	OperationTimeout = 3 * time.Second
)

// Option changes a [Registry] when it is made.
type Option interface {
	apply(o *options)
}

type options struct {
	ttl       time.Duration
	events    func(Event)
	snapshots string
	fallback  map[string][]Instance
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// WithTTL sets how long an entry stays in the backend after its process died
// or lost its connection. The default is [DefaultTTL], 10 seconds, which zero
// also means. Less than [MinTTL] is raised to it, and a fraction of a second
// is rounded up, because backends count in seconds. The keepalive interval is
// derived from it.
func WithTTL(ttl time.Duration) Option {
	return optionFunc(func(o *options) { o.ttl = ttl })
}

// WithEvents sets the function that is told what happens; the default, and
// nil, is none. It is called without a lock held, in order for each
// announcement and for each watched service, but from several goroutines at
// once. It must return quickly, because the announcement or watch waits for
// it, and for the same reason must not call Announce, Withdraw or Close.
func WithEvents(f func(Event)) Option {
	return optionFunc(func(o *options) { o.events = f })
}

// WithSnapshots keeps the last good list of each watched service in a file
// below dir, and starts from it when the backend gives no list: see
// [SourceSnapshot]. The default, and empty, is no files. The directory is made
// when it is first needed; it may be shared by any number of registries and
// processes. A list is written at most once a second, and in any case every
// ten minutes; a file that cannot be used is ignored and told as
// [SnapshotRejected], one that cannot be written as [SnapshotFailed].
func WithSnapshots(dir string) Option {
	return optionFunc(func(o *options) { o.snapshots = dir })
}

// WithFallback sets the lists to start from, by service, when the backend gives
// no list and there is none on disk: see [SourceFallback]. The default, and
// nil, is none. The map is copied when the registry is made; zero weights and
// empty states get their defaults, and an empty Service becomes the key. An
// instance that is not valid is left out, and shown in [Snapshot.Skipped].
func WithFallback(lists map[string][]Instance) Option {
	return optionFunc(func(o *options) { o.fallback = lists })
}

func newOptions(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt.apply(&o)
	}
	if o.ttl == 0 {
		o.ttl = DefaultTTL
	}
	o.ttl = max(o.ttl, MinTTL)
	if part := o.ttl % time.Second; part != 0 {
		o.ttl += time.Second - part
	}
	if o.events == nil {
		o.events = func(Event) {}
	}
	return o
}
