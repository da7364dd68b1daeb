// Package kubernetes is a read-only registry of the pods behind Kubernetes
// Services, as their EndpointSlices list them. Nobody announces: Kubernetes
// does, so [registry.Registry.Announce] returns [registry.ErrReadOnly].
//
// The service "orders" is the Service of that name in the namespace that the
// registry was opened for, "orders.shop" the one in the namespace shop. An
// instance is an endpoint:
//
//   - Its ID is the name of the pod, or the address where there is no pod.
//     Slices may list an endpoint more than once, and a dual-stack pod is in
//     two of them: it is one instance, with the IPv4 address.
//   - Its zone is the endpoint's; the node is in Metadata under [NodeKey].
//   - An endpoint name is the name of a TCP port. A port whose appProtocol is
//     "grpc" or "http" is also found under that name if no port is called so,
//     and so is a single port without name and appProtocol under
//     [DefaultEndpoint].
//
// An endpoint that serves and terminates is [registry.Draining]. One that does
// not serve is left out at once: its readiness probe has said so. One that is
// gone from the slices without having been either may be in quarantine, as with
// any backend.
//
// The slices are listed and then watched from the list's resource version on,
// with bookmarks; a watch that ends, as they all do after some minutes, is taken
// up where it ended. The list is read again every ten minutes or so, and when
// the API server no longer has the history (410 Gone). An endpoint that cannot
// be used is skipped, and the others are not affected. Reading a list has a
// deadline of three seconds. The package starts no goroutine of its own, and
// never writes to the API.
//
// The program's service account needs no more than this:
//
//	apiVersion: rbac.authorization.k8s.io/v1
//	kind: Role
//	metadata: {name: plinth-discovery, namespace: shop}
//	rules:
//	- apiGroups: [discovery.k8s.io]
//	  resources: [endpointslices]
//	  verbs: [list, watch]
package kubernetes
