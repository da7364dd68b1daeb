package service

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"plinth.internal/config"
)

// Errors of a Store.
var (
	ErrNotFound = errors.New("no such item")
	ErrFull     = errors.New("the store is full")
)

// Settings are the values below "store" in plinth.yaml, the environment (PLINTH_STORE_MAX_ITEMS) and the flags (--store.max_items).
type Settings struct {
	// MaxItems is how many items the store holds at most. Default 10000.
	MaxItems int `yaml:"max_items"`
}

// DefaultSettings are used where nothing else is set.
var DefaultSettings = Settings{MaxItems: 10_000}

// Validate is called after the values are read; its error names the place that the value came from.
func (s Settings) Validate() error {
	if s.MaxItems < 1 {
		return config.Invalid("max_items", "must be at least 1")
	}
	return nil
}

// Entry is an item as the store keeps it.
type Entry struct {
	ID   string
	Name string
}

// Store keeps entries by id. Methods may be called at the same time, and return when ctx is done.
type Store interface {
	// Get returns the entry with that id, or an error that wraps ErrNotFound.
	Get(ctx context.Context, id string) (Entry, error)
	// Put stores an entry in place of the one with the same id, or returns an error that wraps ErrFull.
	Put(ctx context.Context, e Entry) error
	// List returns all entries in order of id. The slice is the caller's.
	List(ctx context.Context) ([]Entry, error)
}

// Memory is a Store in this process, gone when it ends: to begin with, and for tests.
type Memory struct {
	limit int

	mu      sync.RWMutex
	entries map[string]Entry
}

// NewMemory returns a Memory that holds at most as many entries as the settings say, and the given ones to begin with.
func NewMemory(s Settings, entries ...Entry) *Memory {
	m := &Memory{limit: s.MaxItems, entries: make(map[string]Entry, len(entries))}
	for _, e := range entries {
		m.entries[e.ID] = e
	}
	return m
}

// Get implements Store.
func (m *Memory) Get(_ context.Context, id string) (Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e, ok := m.entries[id]
	if !ok {
		return Entry{}, ErrNotFound
	}
	return e, nil
}

// Put implements Store.
func (m *Memory) Put(_ context.Context, e Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.entries[e.ID]; !ok && len(m.entries) >= m.limit {
		return ErrFull
	}
	m.entries[e.ID] = e
	return nil
}

// List implements Store.
func (m *Memory) List(context.Context) ([]Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	list := make([]Entry, 0, len(m.entries))
	for _, id := range slices.Sorted(maps.Keys(m.entries)) {
		list = append(list, m.entries[id])
	}
	return list, nil
}
