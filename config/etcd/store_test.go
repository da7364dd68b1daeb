package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"plinth.internal/config"
)

func TestStore(t *testing.T) {
	t.Parallel()
	s := newServer(t).start()
	client := s.dial("")
	store := NewStore(client, "/plinth/")
	ctx := t.Context()

	if v, err := store.Get(ctx, "orders"); err != nil || v.Revision != 0 || v.Data != nil {
		t.Errorf("no document: %+v, %v", v, err)
	}
	first, err := store.Put(ctx, "orders", []byte("a: 1"), 0, "ann@desk", "begin")
	if err != nil || first.Number != 1 || first.Revision == 0 || first.Time.IsZero() {
		t.Fatalf("first: %+v, %v", first, err)
	}
	if v, err := store.Get(ctx, "orders"); err != nil || fmt.Sprint(v) != fmt.Sprint(first) {
		t.Errorf("got %+v, %v, want %+v", v, err, first)
	}

	// Somebody who has not seen it does not overwrite it, and learns whose it is.
	for _, from := range []int64{0, first.Revision - 1, first.Revision + 1} {
		_, err := store.Put(ctx, "orders", []byte("a: 2"), from, "bob@desk", "")
		conflict, ok := errors.AsType[*ConflictError](err)
		if !ok || !strings.Contains(err.Error(), "version 1 was written by ann@desk at 20") || string(conflict.Current.Data) != "a: 1" {
			t.Errorf("from %d: %v", from, err)
		}
	}
	// What was written past the store is kept as well.
	by := put(t, client, "orders", "a: 3")
	if v, err := store.Get(ctx, "orders"); err != nil || v.Number != 0 || v.Revision != by || string(v.Data) != "a: 3" || v.Author != "" {
		t.Errorf("past the store: %+v, %v", v, err)
	}
	if _, err := store.Put(ctx, "orders", []byte("a: 4"), first.Revision, "bob@desk", ""); err == nil || strings.Contains(err.Error(), "written by") {
		t.Errorf("a conflict with nobody known: %v", err)
	}
	fourth, err := store.Put(ctx, "orders", []byte("a: 4"), by, "bob@desk", "")
	if err != nil || fourth.Number != 3 {
		t.Errorf("%+v, %v", fourth, err)
	}
	versions, err := store.History(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range versions {
		got = append(got, fmt.Sprintf("%d %d %s %s %s", v.Number, v.Revision, v.Author, v.Message, v.Data))
	}
	want := []string{
		fmt.Sprintf("1 %d ann@desk begin a: 1", first.Revision), fmt.Sprintf("2 %d unknown  a: 3", by), fmt.Sprintf("3 %d bob@desk  a: 4", fourth.Revision),
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("history\n%q, want\n%q", got, want)
	}

	// One that was deleted can be written anew, and its versions are not lost.
	put(t, client, "orders", "")
	if _, err := store.Put(ctx, "orders", []byte("a: 5"), fourth.Revision, "", ""); err == nil || !strings.Contains(err.Error(), "is not there") {
		t.Errorf("a conflict with nothing: %v", err)
	}
	if v, err := store.Put(ctx, "orders", []byte("a: 5"), 0, "", ""); err != nil || v.Number != 4 {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := store.Version(ctx, "orders", 2); err != nil || string(v.Data) != "a: 3" {
		t.Errorf("%+v, %v", v, err)
	}
	_, err = store.Version(ctx, "orders", 17)
	if _, ok := errors.AsType[*NoVersionError](err); !ok {
		t.Error(err)
	}
	if _, err := store.Put(ctx, "orders", make([]byte, config.MaxDocument+1), 0, "", ""); err == nil || !strings.Contains(err.Error(), "must not exceed") {
		t.Errorf("too large: %v", err)
	}
	for _, name := range []string{"", "a/b", "a b"} {
		if _, err := store.Get(ctx, name); err == nil {
			t.Errorf("name %q is taken", name)
		}
	}
}

// TestHistoryIsBounded: the largest documents, more of them than are kept.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t).start()
	client := s.dial("")
	store := NewStore(client, "")
	ctx := t.Context()
	if _, err := store.Put(ctx, "orders-archive", nil, 0, "", ""); err != nil {
		t.Fatal(err)
	}
	large := []byte(strings.Repeat("\n", config.MaxDocument))
	from := put(t, client, "orders", string(large)+" ")
	for range MaxHistory + 10 {
		v, err := store.Put(ctx, "orders", large, from, "ann", "")
		if err != nil {
			t.Fatal(err)
		}
		from = v.Revision
	}
	versions, err := store.History(ctx, "orders")
	if err != nil || len(versions) != MaxHistory || versions[MaxHistory-1].Number != MaxHistory+11 || versions[0].Number != 12 {
		t.Errorf("%d versions, %v", len(versions), err)
	}
	if other, err := store.History(ctx, "orders-archive"); err != nil || len(other) != 1 {
		t.Errorf("another document's: %v, %v", other, err)
	}
}

// TestWriters: of those who write at once from the same revision, one succeeds.
func TestWriters(t *testing.T) {
	t.Parallel()
	s := newServer(t).start()
	store := NewStore(s.dial(""), "")
	var from int64
	for round := range 10 {
		var mu sync.Mutex
		var won []Version
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				v, err := store.Put(t.Context(), "orders", fmt.Appendf(nil, "a: %d", i), from, "ann", "")
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, v)
				} else if _, ok := errors.AsType[*ConflictError](err); !ok {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 || won[0].Number != int64(round+1) {
			t.Fatalf("round %d: %+v", round, won)
		}
		from = won[0].Revision
	}
}

// TestInterruptedPut: who is interrupted knows whether the document was written.
func TestInterruptedPut(t *testing.T) {
	t.Parallel()
	store := NewStore(newServer(t).start().dial(""), "")
	var is Version
	written := 0
	const tries = 200
	for i := range tries {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Microsecond)
		v, err := store.Put(ctx, "orders", fmt.Appendf(nil, "a: %d", i), is.Revision, "ann", "")
		cancel()
		if err == nil {
			is = v
			written++
		}
		if now, err := store.Get(t.Context(), "orders"); err != nil || now.Revision != is.Revision {
			t.Fatalf("try %d: the document has revision %d, %v, want %d", i, now.Revision, err, is.Revision)
		}
	}
	t.Logf("%d of %d documents were written", written, tries)
	if written == tries {
		t.Error("nobody was interrupted")
	}
}

// TestStoreUnreachable fails at once where nobody listens.
func TestStoreUnreachable(t *testing.T) {
	t.Parallel()
	store := NewStore(newServer(t).dial(""), "")
	if _, err := store.Get(t.Context(), "orders"); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	if _, err := store.Put(t.Context(), "orders", nil, 0, "", ""); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	if _, err := store.History(t.Context(), "orders"); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}
