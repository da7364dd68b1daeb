package xds

import (
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/xds"
	_ "google.golang.org/grpc/xds" // the resolver, the balancers, the certificate provider

	"plinth.internal/client"
)

// WithCredentials lets the mesh say how connections to its instances are
// protected: with TLS or mutual TLS where its cluster has a transport socket with
// certificate providers of the bootstrap document, and by the client's own
// settings where it has none. Without this option the client's own settings count
// for all, and the mesh's are ignored.
//
// The names and IDs that an instance's certificate must have are read from
// match_subject_alt_names; grpc ignores match_typed_subject_alt_names.
//
// It replaces an earlier [client.WithTargetCredentials]. Targets of other schemes
// have the client's own settings either way.
func WithCredentials() client.Option {
	return client.WithTargetCredentials(func(own credentials.TransportCredentials) (credentials.TransportCredentials, error) {
		return xds.NewClientCredentials(xds.ClientOptions{FallbackCreds: own})
	})
}
