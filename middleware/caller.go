package middleware

import (
	"context"
	"crypto/x509"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

type callerKey struct{}

// WithCaller notes in the context of a call being served who makes it: a name that
// was proved, not one that the caller just says, and that is the same for all its
// calls and no other caller's. The auth middleware does; it notes the same in
// [Call.Caller]. An empty name changes nothing.
func WithCaller(ctx context.Context, caller string) context.Context {
	if caller == "" {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, caller)
}

// Caller is who makes the call being served, such as
// "mtls:spiffe://example.org/orders"; "" where nobody knows, because auth is off
// or the call needs no identity.
func Caller(ctx context.Context) string {
	caller, _ := ctx.Value(callerKey{}).(string)
	return caller
}

// FromPlinth reports whether a gRPC call that is being served was made by a client
// of Plinth's, by its user agent. Such a client knows the trace ID that it has sent,
// and asks for what it needs. Nobody has proved it.
func (c *Call) FromPlinth() bool {
	return c.Kind.Server() && !c.Kind.HTTP() && strings.HasPrefix(c.Header("user-agent"), UserAgent)
}

// PeerCertificate is the certificate that the caller holds the key of, checked
// against the roots of the server when the connection was made; nil for a caller
// without one, and on a client. It must not be changed.
func (c *Call) PeerCertificate() *x509.Certificate {
	if t, ok := c.transport.(interface{ certificate() *x509.Certificate }); ok {
		return t.certificate()
	}
	return nil
}

func (c *grpcServerCall) certificate() *x509.Certificate {
	p, ok := peer.FromContext(c.incoming.Context)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil
	}
	return verifiedLeaf(info.State.VerifiedChains)
}

func (c *httpServerCall) certificate() *x509.Certificate {
	if c.request.TLS == nil {
		return nil
	}
	return verifiedLeaf(c.request.TLS.VerifiedChains)
}

func verifiedLeaf(chains [][]*x509.Certificate) *x509.Certificate {
	if len(chains) == 0 || len(chains[0]) == 0 {
		return nil
	}
	return chains[0][0]
}
