// Package consul is a registry in Consul's catalog, through the agent that
// runs beside the process. It is a module of its own, so that programs that do
// not use Consul do not build its client.
//
// # What is written
//
// An instance is a Consul service of the same name, with the ID
// "service~instance", the address and weight of its main endpoint for those
// who read Consul by other means, and in its Meta the JSON form of
// [registry.Instance], in as many pieces as Consul's limit of 512 bytes needs:
// up to about 28 KB. Services that others registered are listed too, with
// their address as the endpoint [DefaultEndpoint] and their Meta as metadata.
//
// The service has a TTL check, which is passed three times per TTL. A process
// that dies leaves a check that turns critical after the TTL, and an entry
// that Consul deletes a while later. An entry that the agent has lost, or that
// somebody changed, is noticed at the next pass, and registered again. An
// instance is shown as draining for half a second at least before it is
// deleted, so that who watches can tell that from a death.
//
// # What is read
//
// Lists come from blocking queries, so that a change is seen at once; an
// unchanged one is confirmed about every ten seconds. Instances whose checks
// are critical are left out, like those whose lease has expired elsewhere; an
// instance that was critical and draining when it went is named as withdrawn.
// An instance that an operator has put into maintenance mode is draining.
//
// A Consul agent without a leader to ask, or none at all, is an error, and
// leaves the list as it is.
//
// # Central configuration
//
// [OpenConfig] follows a service's documents in Consul's key-value store, beside
// the registry or without it.
//
// # Access
//
// The client's token needs service:write for the service's own name, and
// service:read and node:read for those it watches; key:read for the two documents.
// It travels in a header and is in no error text.
package consul
