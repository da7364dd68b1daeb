// Package dns is a registry that reads DNS: address records, as of a
// Kubernetes headless service, or SRV records, as of Kubernetes' named ports
// and of Consul. It is read-only: announcing returns [registry.ErrReadOnly].
//
// # What is listed
//
// Each address and port is an instance, known by just that: DNS tells neither
// a process from the one that had its address before, nor whether it is
// draining. Of SRV records the targets of the lowest priority are listed, with
// their weights; the targets are looked up here, so that a connection needs no
// DNS.
//
// # What is believed
//
// The names of a service are looked up when it is watched first, and again
// when the answer's time to live is over, within the bounds of [WithRefresh]
// and a fifth later at random; never in the path of a call. All watchers of a
// service share one lookup.
//
// A lookup that fails (SERVFAIL, no answer in [LookupTimeout], a refusal)
// leaves the list as it is and is told by [registry.WatchFailed]. A name that
// does not exist, or has no addresses, is an empty list, because that is how
// DNS says that nobody is there, and what a broken DNS server says too:
// therefore the instances are not dropped but quarantined by the registry, as
// is each one that an answer leaves out. Who answers stays in use for
// [registry.QuarantineTime].
//
// The lookups are those of Go's own resolver, with the system's resolv.conf
// and hosts file. End names with a dot: otherwise each lookup of a Kubernetes
// name is up to ten questions along the search path.
package dns
