package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/config"
)

// MaxHistory is how many versions of a document are kept, the one in use among
// them.
const MaxHistory = 50

// Store is the documents as those see them who write them. Each version is kept
// with its author and time; one that was written past the store, by hand for
// example, is kept when the next one is written. Documents are the YAML of one
// service each, or of all services: [Default].
//
// Its methods may be called concurrently, by several processes too: a write names
// the revision that it is made from, and fails where that is not the latest. Each
// operation has a deadline of three seconds, fails at once while nobody listens at
// etcd's addresses, and is not repeated.
type Store struct {
	client    *clientv3.Client
	namespace string
}

// NewStore returns the documents of a namespace; an empty one is
// [DefaultNamespace]. It needs no etcd to be there.
func NewStore(client *clientv3.Client, namespace string) *Store {
	return &Store{client: client, namespace: cleanNamespace(namespace)}
}

// Version is one version of a document.
type Version struct {
	// Number counts the versions of a document from 1, without gaps; 0 for one that
	// was written past the store.
	Number int64
	// Revision is the revision of etcd that it was written in, 0 for no document.
	Revision int64
	// Time, Author and Message are what is known of the write; zero for nothing.
	Time    time.Time
	Author  string
	Message string
	// Data is the text.
	Data []byte
}

// ConflictError says that a document is not as it was when a write was thought of.
type ConflictError struct {
	// Document is the name of the document.
	Document string
	// Expected is the revision that the write was made from.
	Expected int64
	// Current is what is there.
	Current Version
}

// Error says who was faster, if that is known.
func (e *ConflictError) Error() string {
	text := fmt.Sprintf("the document %s is at revision %d, not %d", e.Document, e.Current.Revision, e.Expected)
	switch {
	case e.Current.Revision == 0:
		text = fmt.Sprintf("the document %s is not there, which was at revision %d", e.Document, e.Expected)
	case e.Current.Number > 0:
		text += fmt.Sprintf(": version %d was written by %s at %s", e.Current.Number, e.Current.Author, e.Current.Time.UTC().Format(time.RFC3339))
	}
	return text
}

// NoVersionError says that a version is not kept.
type NoVersionError struct {
	Document string
	Number   int64
}

// Error names what was asked for.
func (e *NoVersionError) Error() string {
	return fmt.Sprintf("version %d of the document %s is not kept", e.Number, e.Document)
}

// record is a version as it is kept.
type record struct {
	Time     time.Time `json:"time,omitzero"`
	Author   string    `json:"author"`
	Message  string    `json:"message,omitempty"`
	Revision int64     `json:"revision,omitempty"` // of a write past the store; others have the key's own
	Data     []byte    `json:"data"`
}

// External is the author of versions that were written past the store.
const External = "unknown"

// Get returns a document as it is now; its revision is 0 where there is none.
func (s *Store) Get(ctx context.Context, name string) (Version, error) {
	current, _, err := s.read(ctx, name)
	if err != nil {
		return Version{}, fmt.Errorf("read configuration %s: %w", name, err)
	}
	return current, nil
}

// read returns a document and the latest version that is kept.
func (s *Store) read(ctx context.Context, name string) (current, latest Version, err error) {
	if err := checkName(name); err != nil {
		return current, latest, err
	}
	ctx, cancel := bounded(ctx, s.client)
	defer cancel()
	prefix := historyPrefix(s.namespace, name)
	response, err := s.client.Txn(ctx).Then(
		clientv3.OpGet(documentKey(s.namespace, name)),
		clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(1)),
	).Commit()
	if err != nil {
		return current, latest, s.explain(ctx, err)
	}
	if kvs := response.Responses[1].GetResponseRange().GetKvs(); len(kvs) > 0 {
		if latest, err = decodeVersion(prefix, kvs[0]); err != nil {
			return current, latest, err
		}
	}
	if kvs := response.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		current.Revision, current.Data = kvs[0].GetModRevision(), kvs[0].GetValue()
		if latest.Revision == current.Revision {
			current = latest
		}
	}
	return current, latest, nil
}

// Put writes a document in place of the revision that it was made from, 0 for none,
// and keeps it as the next version. It returns a [*ConflictError] where the document
// is at another revision, and an error where it is larger than
// [config.MaxDocument]. What it says is not looked at.
func (s *Store) Put(ctx context.Context, name string, data []byte, from int64, author, message string) (Version, error) {
	done, err := s.put(ctx, name, data, from, author, message)
	if _, conflict := errors.AsType[*ConflictError](err); err != nil && !conflict {
		return Version{}, fmt.Errorf("write configuration %s: %w", name, err)
	}
	return done, err
}

func (s *Store) put(ctx context.Context, name string, data []byte, from int64, author, message string) (Version, error) {
	if len(data) > config.MaxDocument {
		return Version{}, fmt.Errorf("size %d bytes: must not exceed %d", len(data), config.MaxDocument)
	}
	current, latest, err := s.read(ctx, name)
	if err != nil {
		return Version{}, err
	}
	if current.Revision != from {
		return Version{}, &ConflictError{Document: name, Expected: from, Current: current}
	}
	key := documentKey(s.namespace, name)
	next := Version{Number: latest.Number + 1, Time: time.Now().UTC().Truncate(time.Millisecond), Author: author, Message: message, Data: data}
	var ops []clientv3.Op
	put := func(v Version) error {
		value, err := json.Marshal(record{Time: v.Time, Author: v.Author, Message: v.Message, Revision: v.Revision, Data: v.Data})
		ops = append(ops, clientv3.OpPut(historyKey(s.namespace, name, v.Number), string(value)))
		return err
	}
	if current.Revision != 0 && current.Number == 0 { // written past the store
		current.Number, current.Author = next.Number, External
		next.Number++
		if err := put(current); err != nil {
			return Version{}, err
		}
	}
	if err := put(next); err != nil {
		return Version{}, err
	}
	ops = append(ops, clientv3.OpPut(key, string(data)))
	if oldest := next.Number - MaxHistory; oldest > 0 {
		ops = append(ops, clientv3.OpDelete(historyKey(s.namespace, name, 0), clientv3.WithRange(historyKey(s.namespace, name, oldest+1))))
	}
	// A write that is on its way is not cut off: nobody would know whether it was done.
	if err := ctx.Err(); err != nil {
		return Version{}, err
	}
	octx, cancel := bounded(context.WithoutCancel(ctx), s.client)
	defer cancel()
	response, err := s.client.Txn(octx).If(
		clientv3.Compare(clientv3.ModRevision(key), "=", from),
		// Somebody who wrote and deleted meanwhile has left a version.
		clientv3.Compare(clientv3.CreateRevision(historyKey(s.namespace, name, latest.Number+1)), "=", 0),
	).Then(ops...).Commit()
	if err != nil {
		return Version{}, s.explain(octx, err)
	}
	if !response.Succeeded {
		if current, _, err = s.read(ctx, name); err != nil {
			return Version{}, err
		}
		return Version{}, &ConflictError{Document: name, Expected: from, Current: current}
	}
	next.Revision = response.Header.GetRevision()
	return next, nil
}

// History returns the versions that are kept, the oldest first. The last one is in
// use if it has the revision of the document.
func (s *Store) History(ctx context.Context, name string) ([]Version, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx, s.client)
	defer cancel()
	prefix := historyPrefix(s.namespace, name)
	response, err := s.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", name, s.explain(ctx, err))
	}
	versions := make([]Version, 0, len(response.Kvs))
	for _, kv := range response.Kvs {
		v, err := decodeVersion(prefix, kv)
		if err != nil {
			return nil, fmt.Errorf("read the history of %s: %w", name, err)
		}
		versions = append(versions, v)
	}
	return versions, nil
}

// Version returns a version that is kept, or a [*NoVersionError].
func (s *Store) Version(ctx context.Context, name string, number int64) (Version, error) {
	versions, err := s.History(ctx, name)
	if err != nil {
		return Version{}, err
	}
	for _, v := range versions {
		if v.Number == number {
			return v, nil
		}
	}
	return Version{}, &NoVersionError{Document: name, Number: number}
}

func decodeVersion(prefix string, kv *mvccpb.KeyValue) (Version, error) {
	var number int64
	if _, err := fmt.Sscanf(strings.TrimPrefix(string(kv.GetKey()), prefix), "%d", &number); err != nil {
		return Version{}, fmt.Errorf("read %s: its name is no number: %w", kv.GetKey(), err)
	}
	var r record
	if err := json.Unmarshal(kv.GetValue(), &r); err != nil {
		return Version{}, fmt.Errorf("read %s: %w", kv.GetKey(), err)
	}
	v := Version{Number: number, Revision: r.Revision, Time: r.Time, Author: r.Author, Message: r.Message, Data: r.Data}
	if v.Revision == 0 {
		v.Revision = kv.GetModRevision()
	}
	return v, nil
}

// explain says what an error of an operation means; it is called before the
// operation's context is cancelled.
func (s *Store) explain(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return unreachable(s.client)
	}
	return explain(s.client, err)
}

// checkName refuses what would be another key than it seems.
func checkName(name string) error {
	if name == "" || strings.ContainsAny(name, "/ \t\n") {
		return fmt.Errorf("name %q: want that of a service, or %s", name, Default)
	}
	return nil
}
