package consul

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// agent is a Consul agent as its HTTP API is documented, with one node: the
// part of it that the registry uses. Like the real one it takes what it is
// told at once and passes it on to the catalog a moment later.
type agent struct {
	url  string
	stop chan struct{} // closed at the end of the test

	mu       sync.Mutex
	services map[string]*service // what the agent knows, by ID
	catalog  map[string]*service // what the lists are made of
	index    uint64
	changed  chan struct{} // closed and replaced with each change of the catalog
	down     bool
	leader   bool
	lag      time.Duration
	asked    map[string]int // requests by kind

	keys   map[string]*api.KVPair // the key-value store
	purged uint64                 // the index of the last deletion in it
}

type service struct {
	registration *api.AgentServiceRegistration
	status       string
	maintenance  bool
	modified     uint64
	expiry       *time.Timer // of the TTL check
}

func newAgent(t testing.TB) *agent {
	t.Helper()
	a := &agent{
		stop:     make(chan struct{}),
		services: make(map[string]*service),
		catalog:  make(map[string]*service),
		index:    10,
		changed:  make(chan struct{}),
		leader:   true,
		lag:      5 * time.Millisecond,
		asked:    make(map[string]int),
		keys:     make(map[string]*api.KVPair),
	}
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request) error{
		"PUT /v1/agent/service/register":        a.register,
		"PUT /v1/agent/service/deregister/{id}": a.deregister,
		"GET /v1/agent/service/{id}":            a.service,
		"PUT /v1/agent/check/update/{id}":       a.update,
		"GET /v1/health/service/{service}":      a.health,
		"GET /v1/kv/{key...}":                   a.kv,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			a.mu.Lock()
			a.asked[pattern]++
			down := a.down
			a.mu.Unlock()
			if down {
				panic(http.ErrAbortHandler)
			}
			if err := handle(w, r); err != nil {
				code := http.StatusInternalServerError
				if refusal, ok := errors.AsType[refusal](err); ok {
					code = refusal.code
				}
				http.Error(w, err.Error(), code)
			}
		})
	}
	server := httptest.NewServer(mux)
	a.url = server.URL
	t.Cleanup(func() {
		close(a.stop)
		a.mu.Lock()
		for _, s := range a.services {
			s.expiry.Stop()
		}
		a.mu.Unlock()
		server.Close()
	})
	return a
}

// refusal is an error with an HTTP status.
type refusal struct {
	code int
	text string
}

func (r refusal) Error() string { return r.text }

var metaKey = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)

func (a *agent) register(_ http.ResponseWriter, r *http.Request) error {
	var reg api.AgentServiceRegistration
	if err := json.NewDecoder(r.Body).Decode(&reg); err != nil {
		return refusal{http.StatusBadRequest, "Request decode failed: " + err.Error()}
	}
	bad := func(format string, args ...any) error {
		return refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
	}
	if reg.Name == "" {
		return bad("Missing service name")
	}
	if len(reg.Meta) > 64 {
		return bad("Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs")
	}
	for key, value := range reg.Meta {
		if !metaKey.MatchString(key) || len(value) > 512 {
			return bad("Invalid Service Meta: pair %q", key)
		}
	}
	if w := reg.Weights; w != nil && (w.Passing < 1 || w.Passing > 65535 || w.Warning < 0 || w.Warning > 65535) {
		return bad("Invalid Weights: %+v", *w)
	}
	ttl, err := time.ParseDuration(reg.Check.TTL)
	if err != nil || ttl <= 0 {
		return bad("Invalid TTL %q", reg.Check.TTL)
	}
	if after, err := time.ParseDuration(reg.Check.DeregisterCriticalServiceAfter); err != nil || after < time.Minute {
		return bad("Invalid DeregisterCriticalServiceAfter %q", reg.Check.DeregisterCriticalServiceAfter)
	}
	a.put(&reg, reg.Check.Status, ttl)
	return nil
}

// put registers a service, whose check turns critical after the TTL; never if
// that is zero.
func (a *agent) put(reg *api.AgentServiceRegistration, status string, ttl time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.services[reg.ID]; old != nil {
		old.expiry.Stop()
	}
	s := &service{registration: reg, status: status}
	s.expiry = time.AfterFunc(max(ttl, time.Nanosecond), func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if ttl > 0 && a.services[reg.ID] == s {
			s.status = api.HealthCritical
			a.syncLocked(reg.ID)
		}
	})
	a.services[reg.ID] = s
	a.syncLocked(reg.ID)
}

func (a *agent) deregister(_ http.ResponseWriter, r *http.Request) error {
	if !a.remove(r.PathValue("id")) {
		return refusal{http.StatusNotFound, fmt.Sprintf("Unknown service ID %q", r.PathValue("id"))}
	}
	return nil
}

func (a *agent) remove(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.services[id]
	if s == nil {
		return false
	}
	s.expiry.Stop()
	delete(a.services, id)
	a.syncLocked(id)
	return true
}

// maintain turns an instance's maintenance mode on or off.
func (a *agent) maintain(id string, on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.services[id].maintenance = on
	a.syncLocked(id)
}

func (a *agent) service(w http.ResponseWriter, r *http.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.services[r.PathValue("id")]
	if s == nil {
		return refusal{http.StatusNotFound, "unknown service ID: " + r.PathValue("id")}
	}
	return json.NewEncoder(w).Encode(s.entry().Service)
}

func (a *agent) update(_ http.ResponseWriter, r *http.Request) error {
	var body struct {
		Status string `json:"Status"`
		Output string `json:"Output"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return refusal{http.StatusBadRequest, err.Error()}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, s := range a.services {
		if s.registration.Check == nil || s.registration.Check.CheckID != r.PathValue("id") {
			continue
		}
		ttl, err := time.ParseDuration(s.registration.Check.TTL)
		if err != nil {
			return err
		}
		s.expiry.Reset(ttl)
		if s.status != body.Status {
			s.status = body.Status
			a.syncLocked(id)
		}
		return nil
	}
	return refusal{http.StatusNotFound, fmt.Sprintf("Unknown check ID %q", r.PathValue("id"))}
}

// syncLocked passes what the agent knows of a service on to the catalog.
func (a *agent) syncLocked(id string) {
	time.AfterFunc(a.lag, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.index++
		if s := a.services[id]; s != nil {
			entry := *s
			entry.modified = a.index
			a.catalog[id] = &entry
		} else {
			delete(a.catalog, id)
		}
		a.changeLocked()
	})
}

func (a *agent) changeLocked() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// setIndex is what a restore of an older state does.
func (a *agent) setIndex(index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index = index
	a.changeLocked()
}

func (a *agent) setLeader(leader bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leader = leader
	a.changeLocked()
}

// setDown makes the agent break all connections.
func (a *agent) setDown(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
	a.changeLocked()
}

// health answers at once, or, asked with an index, when the state is another
// one or the wait is over.
func (a *agent) health(w http.ResponseWriter, r *http.Request) error {
	if err := a.block(r, func() uint64 { return a.index }); err != nil {
		return err
	}
	a.mu.Lock()
	entries := make([]*api.ServiceEntry, 0) // "[]" if there are none
	for _, s := range a.catalog {
		if s.registration.Name == r.PathValue("service") {
			entries = append(entries, s.entry())
		}
	}
	w.Header().Set("X-Consul-Index", strconv.FormatUint(a.index, 10))
	a.mu.Unlock()
	w.Header().Set("X-Consul-Knownleader", "true")
	w.Header().Set("X-Consul-Lastcontact", "0")
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(entries)
}

// block waits as a blocking query does, until an index is greater than the one that
// is asked for.
func (a *agent) block(r *http.Request, current func() uint64) error {
	query := r.URL.Query()
	index, _ := strconv.ParseUint(query.Get("index"), 10, 64)
	wait, err := time.ParseDuration(query.Get("wait"))
	if err != nil {
		return refusal{http.StatusBadRequest, "Invalid wait time"}
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for waiting := index > 0; ; {
		a.mu.Lock()
		changed, now, down, leader := a.changed, current(), a.down, a.leader
		a.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		if !leader {
			return errors.New("No cluster leader")
		}
		// "a blocking query returns when the index is greater than the one asked
		// for", and the one that is asked for may be from before a restore.
		if now > index || !waiting {
			return nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			waiting = false
		case <-r.Context().Done():
			return r.Context().Err()
		case <-a.stop:
			return errors.New("the agent stops")
		}
	}
}

// kv answers a read of one key.
func (a *agent) kv(w http.ResponseWriter, r *http.Request) error {
	key := r.PathValue("key")
	index := func() uint64 {
		if pair := a.keys[key]; pair != nil {
			return pair.ModifyIndex
		}
		return max(a.purged, 1)
	}
	if err := a.block(r, index); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("X-Consul-Index", strconv.FormatUint(index(), 10))
	w.Header().Set("Content-Type", "application/json")
	pair := a.keys[key]
	if pair == nil {
		w.WriteHeader(http.StatusNotFound)
		return nil
	}
	return json.NewEncoder(w).Encode([]*api.KVPair{pair})
}

// putKey writes a key of the store, or deletes it for an empty value.
func (a *agent) putKey(key, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index++
	if value == "" {
		delete(a.keys, key)
		a.purged = a.index
	} else {
		a.keys[key] = &api.KVPair{Key: key, Value: []byte(value), CreateIndex: a.index, ModifyIndex: a.index}
	}
	a.changeLocked()
}

// wipe is a store that has lost all its data.
func (a *agent) wipe() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.keys)
	a.index, a.purged = 1, 0
	a.changeLocked()
}

func (s *service) entry() *api.ServiceEntry {
	reg := s.registration
	e := &api.ServiceEntry{
		Node: &api.Node{Node: "n1", Address: "10.0.0.1"},
		Service: &api.AgentService{
			ID: reg.ID, Service: reg.Name, Address: reg.Address, Port: reg.Port, Meta: reg.Meta, ModifyIndex: s.modified,
		},
		Checks: api.HealthChecks{
			{Node: "n1", CheckID: "serfHealth", Status: api.HealthPassing},
			{Node: "n1", CheckID: checkID(reg.ID), Status: s.status, ServiceID: reg.ID},
		},
	}
	if reg.Weights != nil {
		e.Service.Weights = *reg.Weights
	}
	if s.maintenance {
		e.Checks = append(e.Checks, &api.HealthCheck{
			Node: "n1", CheckID: "_service_maintenance:" + reg.ID, Status: api.HealthCritical, ServiceID: reg.ID,
		})
	}
	return e
}

// requests returns how many of a kind there were.
func (a *agent) requests(pattern string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[pattern]
}

// registered returns the IDs that the agent knows, and the status of each.
func (a *agent) registered() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []string
	for id, s := range a.services {
		ids = append(ids, id+" "+s.status)
	}
	slices.Sort(ids)
	return ids
}
