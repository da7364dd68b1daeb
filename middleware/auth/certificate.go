package auth

import (
	"crypto/x509"
	"strings"

	"plinth.internal/middleware"
)

// certKey is a certificate as a connection holds it: all its calls have the same.
type certKey = *x509.Certificate

// byCertificate is who the connection's certificate is for; nil without one.
func (a *Auth) byCertificate(call *middleware.Call) (*Identity, *RefusalError) {
	cert := call.PeerCertificate()
	if cert == nil {
		return nil, nil
	}
	if id, ok := a.certs.get(cert); ok {
		return id, nil
	}
	subject := subjectOf(cert)
	if !validSubject(subject) {
		return nil, refuse(Certificate, "", "its names are %s", quote(strings.Join(names(cert), ", ")))
	}
	id := &Identity{
		Subject: subject, Source: KindMTLS, Kind: KindMTLS, Issuer: cert.Issuer.String(), Expires: cert.NotAfter,
		name: KindMTLS + ":" + subject,
	}
	a.certs.put(cert, id)
	return id, nil
}

const schemeSPIFFE = "spiffe"

// subjectOf is the SPIFFE ID, else the first DNS name, else the common name; ""
// where the certificate does not say who it is for.
func subjectOf(cert *x509.Certificate) string {
	for _, uri := range cert.URIs {
		if !strings.EqualFold(uri.Scheme, schemeSPIFFE) {
			continue
		}
		// "An X.509 SVID MUST contain exactly one URI SAN" - SPIFFE X509-SVID, section 2
		if len(cert.URIs) != 1 || cert.IsCA {
			return ""
		}
		return uri.String()
	}
	subject := cert.Subject.CommonName
	if len(cert.DNSNames) > 0 {
		subject = cert.DNSNames[0]
	}
	// Nobody becomes a SPIFFE ID by having it for a name.
	if strings.HasPrefix(strings.ToLower(subject), schemeSPIFFE+":") {
		return ""
	}
	return subject
}

// names are all that a certificate says, for the log.
func names(cert *x509.Certificate) []string {
	var out []string
	for _, uri := range cert.URIs {
		out = append(out, uri.String())
	}
	return append(append(out, cert.DNSNames...), cert.Subject.CommonName)
}
