package client

import (
	"crypto/x509"
	"net"
)

// connectionMade is what is known of a connection.
type connectionMade struct {
	tls  bool
	peer string // whom the instance's certificate is for
}

// restKey is the attribute of an address of grpc's under which its handshake finds
// the rest.
type restKey struct{}

// made notes how the last connection to the address was made.
func (r *rest) connected(conn net.Conn) {
	m := &connectionMade{}
	if c, ok := conn.(*securedConn); ok {
		m.tls = true
		if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
			m.peer = nameOf(certs[0])
		}
	}
	r.last.Store(m)
}

// nameOf is whom a certificate is for.
func nameOf(leaf *x509.Certificate) string {
	switch {
	case len(leaf.URIs) > 0:
		return leaf.URIs[0].String()
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	}
	return leaf.Subject.String()
}

// explain adds it to what is told of a connection.
func (m *connectionMade) explain(c *ConnectionExplained) {
	if m != nil {
		c.TLS, c.Peer = new(m.tls), m.peer
	}
}
