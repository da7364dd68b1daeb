// Package xds lets a client call services through a mesh: the mesh's control
// plane says, over xDS, where calls go and who takes them. It is a module of its
// own, so that programs without a mesh do not build grpc's xDS client.
//
// Importing it is all that a program must do. A service is called through the
// mesh if its target says so, in the configuration
//
//	clients:
//	  orders: {target: "xds:///orders"}
//
// or for all services, with target "xds:///{service}" under default, or in code
// with [client.WithTargets]. Where the control plane is stands in the bootstrap
// document that grpc defines: a file that the variable GRPC_XDS_BOOTSTRAP names,
// or the document itself in GRPC_XDS_BOOTSTRAP_CONFIG. grpc reads both variables
// when the program starts.
//
// # What the client still does
//
// The chain around a call is the one that it always is: trace, metrics and log;
// the total deadline; the breaker of the service or of the method; retries of
// what is safe to repeat, out of the same budget; hedging where it is switched on.
// The settings of [client.Settings] for these are the same, and hot. Connections
// have the same time limit, keepalive and backoff.
//
// # What it leaves to the mesh
//
// Discovery, picking and everything that needs to know the instances: the
// balancing policy, slow start, ejection, bounces, zones, subsets, canary rules,
// the quarantine of instances that the registry has lost, health checks, and the
// spreading of reconnections. Settings for these have no effect on such a
// service. A retry and a hedge are picked by the mesh as well, so that they may
// reach the same instance again; grpc gives them no way to avoid it.
//
// The mesh's own retry policy is not used, because one layer retries. Its route
// timeout and ours both hold; the shorter one ends a call. What the mesh says
// about ejection (outlier detection), circuit breaking and fault injection,
// grpc does as it would without Plinth.
//
// HTTP and net/rpc clients of the service find instances through the registry as
// before. A server announces itself to the registry, and takes no configuration
// from the mesh: servers that do (NewGRPCServer in grpc's package xds) are not
// supported.
//
// # What importing does
//
// grpc's own packages register their resolver, their balancers and their
// certificate provider in the process while it starts, which is grpc's only way;
// this package adds nothing to that, and starts nothing. The connection to the
// control plane is made when the first service is called through it, is shared
// by all clients of the process, and ends with the last of them.
package xds
