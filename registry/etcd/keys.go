package etcd

import "strings"

// The layout of the keys. It is a contract: other programs read and write them.
//
//	<namespace>/services/<service>/<id>   an instance, under its lease
//	<namespace>/operator/<service>/<id>   what an operator wants of it, without a lease
//	<namespace>/elections/<name>/<lease>  a candidate, under its lease; the oldest one leads

// cleanNamespace fills in the default and takes the slashes off the end.
func cleanNamespace(namespace string) string {
	if namespace == "" {
		namespace = DefaultNamespace
	}
	return strings.TrimRight(namespace, "/")
}

// servicesPrefix is the prefix of all instances. The namespace is a clean one,
// here and below.
func servicesPrefix(namespace string) string { return namespace + "/services/" }

// servicePrefix is the prefix of the instances of one service.
func servicePrefix(namespace, service string) string {
	return servicesPrefix(namespace) + service + "/"
}

// instanceKey is the key of an instance.
func instanceKey(namespace, service, id string) string { return servicePrefix(namespace, service) + id }

// operatorPrefix is the prefix of all overrides.
func operatorPrefix(namespace string) string { return namespace + "/operator/" }

// overrideKey is the key of an instance's override.
func overrideKey(namespace, service, id string) string {
	return operatorPrefix(namespace) + service + "/" + id
}

// electionPrefix is the prefix of the candidates of one election.
func electionPrefix(namespace, name string) string { return namespace + "/elections/" + name + "/" }
