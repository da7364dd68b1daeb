package etcd

import (
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// DefaultNamespace is the key prefix of all of Plinth's keys.
const DefaultNamespace = "/plinth"

// Default is the name of the document that all services read. It is no name of a
// service.
const Default = "default"

// Option changes the feed that [Open] returns.
type Option interface {
	apply(o *options)
}

type options struct{ namespace string }

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// WithNamespace sets the prefix of all keys. The default, and empty, is
// [DefaultNamespace], "/plinth". A slash at the end makes no difference.
func WithNamespace(namespace string) Option {
	return optionFunc(func(o *options) { o.namespace = namespace })
}

// cleanNamespace fills in the default and takes the slashes off the end.
func cleanNamespace(namespace string) string {
	if namespace == "" {
		namespace = DefaultNamespace
	}
	return strings.TrimRight(namespace, "/")
}

// documentKey is the key of a document. It is a contract: other programs read and
// write it.
func documentKey(namespace, name string) string { return namespace + "/config/" + name }

// historyKey is the key of a version of a document.
func historyKey(namespace, name string, version int64) string {
	return fmt.Sprintf("%s%08d", historyPrefix(namespace, name), version)
}

func historyPrefix(namespace, name string) string {
	return namespace + "/config-history/" + name + "/"
}

// explain says what an error of etcd means; nil stays nil.
func explain(client *clientv3.Client, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("etcd has no space left, compact and defragment it and then disarm its alarm: %w", err)
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return fmt.Errorf("etcd does not allow that to user %q, grant its role what docs/etcd.md lists: %w", client.Username, err)
	}
	return err
}
