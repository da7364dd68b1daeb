// Package registry says what an instance of a service is, and gives every
// backend the same behaviour: an [Instance] is announced for ever, and a list
// of instances is kept until a better one is known. A backend (registry/etcd,
// registry/memory, registry/static) is a small [Driver]; [Registry] is the one
// concrete type that services and clients use. The package is larger than most
// here so that the backends are small.
//
// # Announcing
//
// [Registry.Announce] never gives up and never fails because a backend is
// down. One goroutine per announcement registers the instance, notices when
// the entry is lost, and registers it again, with full jitter between 0.2 and
// 5 seconds, until the context of the announcement ends, it is withdrawn, or
// the Registry is closed. Updates of one instance reach the backend in the
// order of the Announce calls; an update that is overtaken by a newer one may
// be left out. An instance that is withdrawn in any of these ways is marked as
// draining before its entry is deleted.
//
// # Watching
//
// [Registry.Watch] yields whole lists, never differences. Lists are coalesced:
// a consumer that is slow gets the latest list when it comes back, and makes
// neither the backend nor another consumer wait. An error of the backend never
// empties a list: it is yielded together with the last good one. All watchers
// of a service share one watch of the backend, which starts with the first of
// them and ends with the last.
//
// The registry is a hint. A list says who announced itself, not who answers:
// that is for health checks and for the calls themselves to find out. So an
// instance leaves the list for one of these reasons only: it was withdrawn,
// which everybody does by marking the entry as draining first; somebody found
// that it does not answer and said so with [Registry.Drop]; another one is
// listed at its address; or it was absent for [QuarantineTime]. Until then one
// that is absent from the backend is in quarantine: see [Snapshot.Quarantined].
// A backend that is wiped, or whose leases have all expired, empties no list.
//
// # Starting without a backend
//
// A new watch whose backend gives no list starts from the last good one of an
// earlier process, if [WithSnapshots] says where, and else from the list of
// [WithFallback]. [Snapshot.Source] says which, and the first list of the
// backend takes its place. The files hold what the backend holds, and no
// credentials.
//
// # Operators
//
// An operator may take an instance out of rotation, or change its weight,
// without touching the instance: see [Override]. The announcing Registry
// follows what is stored for its instance in a backend that is an [Overrider].
//
// # Concurrency
//
// All methods of Registry may be called concurrently. Snapshots are shared by
// all watchers and must not be changed. The package logs nothing and starts no
// goroutine before Announce or Watch is called; what happens is told to the
// function given to [WithEvents].
package registry
