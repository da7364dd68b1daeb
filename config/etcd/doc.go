// Package etcd keeps a service's central configuration in etcd: as a feed that the
// service follows ([Open]), and as a store that people write to ([NewStore]).
//
// The documents are the keys <namespace>/config/default, which all services read,
// and <namespace>/config/<service>, which lies above it. They are YAML, and set hot
// keys only. What was written with a [Store] is kept below
// <namespace>/config-history/<service>/, the last [MaxHistory] versions of it.
//
// A feed reads both documents at one revision, and again each time that a watch
// tells of a change: a change that touches both is seen whole. It watches on a
// member that has a leader. When the connection was lost, the history was compacted
// or the watch ended, it begins anew, and it reads about every minute in any case.
// It never gives up. What it saw last stays while etcd does not answer.
//
// A document that is deleted is gone: it sets nothing any more. One that is missing
// in an etcd that has lost its data, by a wipe or by an older copy that was put back,
// is an error until somebody writes it again, and what was good last stays in use:
// a wipe is not an operator who changed his mind.
package etcd
