// Package zookeeper is the registry on ZooKeeper.
//
// An instance is the ephemeral node <namespace>/services/<service>/<instance-id>
// with a JSON value. Each announcement has a session of its own, whose timeout
// is the registry's TTL: when the process dies, the node goes with the session.
// ZooKeeper bounds that timeout, by default to 4 to 40 seconds. The node is
// read every third of the TTL: whoever deletes or changes it finds it put back,
// and so does a ZooKeeper that lost its data. A server that refuses a session,
// because it was wiped and knows nothing of what the client has seen, costs a
// new session and not, as with the bare client, the connection for ever.
//
// All watches of a registry share one more session. A watch is a list, read
// after a sync with the leader, and then what ZooKeeper's watches tell of the
// children and of each child's data. ZooKeeper tells that something changed and
// not what, so changes that follow each other quickly are seen as one. When the
// connection was lost, the list is read again, on a new session; the names are
// read again about every minute in any case. An entry that cannot be understood
// is skipped, and the others are not affected.
//
// Because a draining mark may be overtaken by the deletion after it, a node
// that is withdrawn leaves a mark in the same transaction: an empty node
// .<time>.<instance-id> beside it, which the next announcement of that service
// deletes when it is an hour old. Without it, a watcher could not tell the
// withdrawal from a session that expired.
//
// Every operation has a deadline of three seconds, and fails at once while
// there is no connection; connecting is tried for ever, about every second,
// and a server's name is resolved each time. The ZooKeeper client's own logger
// is silent: what there is to say is in the errors.
package zookeeper
