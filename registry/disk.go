package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"plinth.internal/internal/atomicfile"
)

const (
	// saveEvery is the shortest time between two writes of one list.
	saveEvery = time.Second
	// saveShare is the part of the time that writing one list may take.
	saveShare = 0.05
	// refreshEvery is how often an unchanged list is written, so that its file
	// does not get too old.
	refreshEvery = 10 * time.Minute
	// clockSkew is how far in the future a list may have been written, by
	// another process or before the clock was set back.
	clockSkew = MaxSnapshotAge
	// maxSnapshotSize is the size of the largest file, in bytes.
	maxSnapshotSize = 64 << 20
)

// disk keeps lists in files, one for each service, below a directory for each
// kind of backend and each part of it.
type disk struct {
	dir   string
	kind  string
	scope string
}

// newDisk returns nil, which keeps nothing, for an empty dir.
func newDisk(dir string, driver Driver) *disk {
	if dir == "" {
		return nil
	}
	d := &disk{dir: dir, kind: driver.Kind()}
	if scoped, ok := driver.(Scoped); ok {
		d.scope = scoped.Scope()
	}
	return d
}

func (d *disk) path(service string) string {
	return filepath.Join(d.dir, url.PathEscape(d.kind+d.scope), service+".json")
}

// stored is a list in a file.
type stored struct {
	Kind        string               `json:"kind"`
	Scope       string               `json:"scope,omitempty"`
	Service     string               `json:"service"`
	At          time.Time            `json:"at"`
	Revision    int64                `json:"revision,omitempty"`
	Instances   []Instance           `json:"instances"`
	Quarantined map[string]time.Time `json:"quarantined,omitempty"`
}

// load returns the list of a service; the zero value if there is none.
func (d *disk) load(service string, now time.Time) (stored, error) {
	if d == nil {
		return stored{}, nil
	}
	file, err := os.Open(d.path(service))
	if errors.Is(err, fs.ErrNotExist) {
		return stored{}, nil
	}
	if err != nil {
		return stored{}, err
	}
	defer func() { _ = file.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(file, maxSnapshotSize+1))
	if err != nil {
		return stored{}, err
	}
	s, err := decodeStored(data, now)
	if err != nil {
		return stored{}, err
	}
	if s.Kind != d.kind || s.Scope != d.scope || s.Service != service {
		return stored{}, fmt.Errorf("it is the list of service %q in %s %q", s.Service, s.Kind, s.Scope)
	}
	return s, nil
}

// decodeStored reads a file. It accepts only what a program can start from as
// it is: one bad instance makes the whole file doubtful.
func decodeStored(data []byte, now time.Time) (stored, error) {
	if len(data) > maxSnapshotSize {
		return stored{}, fmt.Errorf("size of the file: must not exceed %d bytes", maxSnapshotSize)
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return stored{}, fmt.Errorf("decode list: %w", err)
	}
	switch age := now.Sub(s.At); {
	case age > MaxSnapshotAge:
		return stored{}, fmt.Errorf("the list is of %s: older than %v", s.At.Format(time.RFC3339), MaxSnapshotAge)
	case age < -clockSkew:
		return stored{}, fmt.Errorf("the list is of %s: in the future", s.At.Format(time.RFC3339))
	}
	for i, inst := range s.Instances {
		inst = inst.withDefaults()
		s.Instances[i] = inst
		if err := inst.Validate(); err != nil {
			return stored{}, fmt.Errorf("instance %d: %w", i, err)
		}
		if inst.Service != s.Service {
			return stored{}, fmt.Errorf("instance %s is of service %q: must be %q", inst.ID, inst.Service, s.Service)
		}
	}
	sortInstances(s.Instances)
	for i := range s.Instances {
		if i > 0 && s.Instances[i].ID == s.Instances[i-1].ID {
			return stored{}, fmt.Errorf("instance %s is there twice", s.Instances[i].ID)
		}
	}
	return s, nil
}

// listed are the instances that the backend listed.
func (s stored) listed() []Instance {
	return slices.DeleteFunc(slices.Clone(s.Instances), func(inst Instance) bool {
		_, ok := s.Quarantined[inst.ID]
		return ok
	})
}

// absent are those that were in quarantine.
func (s stored) absent() (absent []absence) {
	for _, inst := range s.Instances {
		if since, ok := s.Quarantined[inst.ID]; ok {
			absent = append(absent, absence{inst, since, since.Add(QuarantineTime)})
		}
	}
	return absent
}

// save writes the list of a service in place of the one before. Whoever reads
// meanwhile finds one of the two. The data may be lost, but not mixed up, when
// the machine loses its power: then the file is found to be corrupt.
func (d *disk) save(snapshot Snapshot) error {
	data, err := json.Marshal(stored{
		Kind:        d.kind,
		Scope:       d.scope,
		Service:     snapshot.Service,
		At:          snapshot.At,
		Revision:    snapshot.Revision,
		Instances:   snapshot.Instances,
		Quarantined: snapshot.Quarantined,
	})
	if err != nil {
		return err
	}
	path := d.path(snapshot.Service)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, data)
}

// keep writes the list to disk each time it has changed, and sometimes when it
// has not, until the watch ends.
func (w *watch) keep() {
	refresh := time.NewTicker(refreshEvery)
	defer refresh.Stop()
	failed := false
	save := func() (took time.Duration) {
		snapshot, _ := w.current()
		if snapshot.Source != SourceRegistry {
			return 0 // it came from here, or is a guess
		}
		began := time.Now()
		err := w.registry.disk.save(snapshot)
		if err != nil && !failed {
			w.mu.Lock()
			w.news = append(w.news, SnapshotFailed{Service: w.service, Path: w.registry.disk.path(w.service), Err: err})
			w.unlock()
		}
		failed = err != nil
		return time.Since(began)
	}
	for {
		select {
		case <-w.stop:
			select {
			case <-w.unsaved:
				save()
			default:
			}
			return
		case <-w.unsaved:
		case <-refresh.C:
		}
		rest := time.NewTimer(max(saveEvery, time.Duration(float64(save())/saveShare)))
		select {
		case <-rest.C:
		case <-w.stop:
		}
		rest.Stop()
	}
}

// fallbackLists prepares the lists of [WithFallback].
func fallbackLists(services map[string][]Instance) map[string]List {
	lists := make(map[string]List, len(services))
	for service, instances := range services {
		var list List
		seen := make(map[string]bool)
		for _, inst := range instances {
			inst = inst.Clone().withDefaults()
			if inst.Service == "" {
				inst.Service = service
			}
			err := inst.Validate()
			switch {
			case err != nil:
			case inst.Service != service:
				err = fmt.Errorf("service %q: must be %q, as in its list", inst.Service, service)
			case seen[inst.ID]:
				err = errors.New("the ID is there twice")
			default:
				seen[inst.ID] = true
				list.Instances = append(list.Instances, inst)
				continue
			}
			list.Skipped = append(list.Skipped, Skipped{Key: "fallback " + service + "/" + inst.ID, Err: err})
		}
		sortInstances(list.Instances)
		lists[service] = list
	}
	return lists
}
