// Package etcd is the registry on etcd.
//
// Its keys, the permissions they need and what happens in which fault are in
// docs/etcd.md.
//
// An instance is the key <namespace>/services/<service>/<instance-id> with a
// JSON value, under a lease of its own: when the process dies, the key goes
// with the lease. The lease is renewed every third of its TTL, and the key is
// watched and read every ten seconds: whoever deletes or changes it, by hand
// or by restoring an older etcd, finds it put back.
//
// A watch is a list, and then the changes from that list's revision on, from a
// member that has a leader. When the connection was lost, the history was
// compacted, or the cluster is another one than before, the list is read
// again; it is read again about every minute in any case. An entry that cannot
// be understood is skipped, and the others are not affected.
//
// What an operator wants of an instance is the key
// <namespace>/operator/<service>/<instance-id>, which has no lease. The
// instance watches it, deletes it when it is withdrawn, and puts it back into
// an etcd that has lost its data.
//
// An [Elector] makes one process out of many the leader, by keys of their own
// under <namespace>/elections/; it says what is guaranteed and what is not.
//
// Every operation has a deadline of three seconds, and fails at once while
// there is no connection; a connection that comes back is used at once. So
// nothing here waits longer for an etcd that is down than it must.
package etcd
