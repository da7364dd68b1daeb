package static

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"plinth.internal/registry"
)

const (
	// MaxFileSize is the size in bytes of the largest file that is read, 4 MiB.
	MaxFileSize = 4 << 20

	// pollInterval and settleTime add up to less than the second that a change
	// may take.
	pollInterval = 300 * time.Millisecond
	// settleTime is how long a file must stay as it is before it counts. A
	// program that writes it in place is not caught half way, when the end of
	// the list is missing and the rest is a good list.
	settleTime = 250 * time.Millisecond
)

// OpenFile returns a registry that lists what the file at path says: a YAML or
// JSON document of service names, each with a list of instances. An instance
// is a string as for [Open] or a mapping with the fields of
// [registry.Instance] in snake_case, of which only endpoints is needed:
//
//	billing:
//	  - 10.0.0.1:9000
//	  - grpc=10.0.0.2:9000,http=10.0.0.2:8080
//	  - {id: b-3, endpoints: {grpc: "10.0.0.3:9000"}, zone: b, weight: 50, state: draining}
//	search: []
//
// The file is read again several times a second while a service is watched,
// and a change is followed within a second, whether the file was written in
// place, replaced by renaming, or reached by a symbolic link that now leads
// elsewhere, as with Kubernetes' ConfigMaps. An instance that is no longer in
// the file is gone at once.
//
// A file that is missing, is larger than [MaxFileSize] or has an error
// anywhere changes nothing: the lists stay as they were, and each of them has
// the file's path and the error among its [registry.Snapshot.Skipped] entries
// until the file is right, which [registry.EntrySkipped] tells once for each
// watched service. A file that is bad when it is opened is an error, which
// names the line.
func OpenFile(path string, opts ...registry.Option) (*registry.Registry, error) {
	data, sum, err := read(path)
	var all lists
	if err == nil {
		all, err = decode(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read instances from %s: %w", path, err)
	}
	return registry.New(&file{path: path, used: sum, lists: all, revision: 1}, opts...), nil
}

// file is the driver that follows a file.
type file struct {
	driver // without lists of its own

	path string // immutable

	mu       sync.Mutex
	looked   time.Time   // when the file was read last
	seen     fingerprint // what was read then
	since    time.Time   // when that was read first
	used     fingerprint // what was read last that has settled
	lists    lists       // the last good ones of what has settled
	err      error       // why that which settled last is not good; nil if it is
	revision int64       // counts what has settled
}

// fingerprint tells what was read, or why it could not be, from all else.
type fingerprint [sha256.Size]byte

// Watch reads the file at intervals, and hands out the list again when it is
// found unchanged, which confirms it.
func (f *file) Watch(ctx context.Context, service string, emit func(registry.List)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last := int64(0)
	for {
		list, good := f.list(service)
		if good || list.Revision != last {
			emit(list)
			last = list.Revision
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// list returns the service's list and whether the file is good.
func (f *file) list(service string) (list registry.List, good bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookLocked()
	list = registry.List{Instances: slices.Clone(f.lists[service]), Revision: f.revision, Explicit: true}
	if f.err != nil {
		list.Skipped = []registry.Skipped{{Key: f.path, Err: f.err}}
	}
	return list, f.err == nil
}

// lookLocked reads the file, unless the watch of another service has just done
// so, and uses it once it has settled.
func (f *file) lookLocked() {
	now := time.Now()
	if now.Sub(f.looked) < pollInterval/2 {
		return
	}
	f.looked = now
	data, sum, err := read(f.path)
	if sum != f.seen {
		f.seen, f.since = sum, now
	}
	if sum == f.used || now.Sub(f.since) < settleTime {
		return
	}
	var all lists
	if err == nil {
		all, err = decode(data)
	}
	f.used, f.err = sum, err
	f.revision++
	if err == nil {
		f.lists = all
	}
}

// read reads the file.
func read(path string) ([]byte, fingerprint, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, sha256.Sum256([]byte("error: " + err.Error())), err
	}
	return data, sha256.Sum256(data), nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("must be a file")
	case info.Size() > MaxFileSize:
		return nil, fmt.Errorf("size %d: must not exceed %d bytes", info.Size(), MaxFileSize)
	}
	return os.ReadFile(path)
}
