package registry

import "sync"

// Doubtful is an optional part of a [Registration]: one that notices that it cannot
// keep the entry alive before that is lost. [Status] tells it then.
type Doubtful interface {
	// Doubt says why the entry is not kept alive at this moment, nil while it is,
	// and returns a channel that is closed when that changes. It does not block.
	Doubt() (changed <-chan struct{}, err error)
}

// Doubts makes the [Registration] that it is embedded in a [Doubtful] one. The zero
// value has no doubt. Its methods may be called concurrently.
type Doubts struct {
	mu      sync.Mutex
	err     error
	changed chan struct{} // closed and replaced where a doubt comes or goes; nil while nobody has asked
}

// SetDoubt says how the last attempt to keep the entry alive went; nil is well.
func (d *Doubts) SetDoubt(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if (err == nil) != (d.err == nil) && d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
	d.err = err
}

// Doubt makes Doubts a [Doubtful].
func (d *Doubts) Doubt() (changed <-chan struct{}, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.changed, d.err
}
