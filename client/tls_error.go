package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// opRemote is what package crypto/tls calls an alert of the other end.
const opRemote = "remote error"

// explainTLS makes a sentence for a person of why there is no connection with
// TLS: which certificate, what is wrong with it, and where to mend it. There are
// no quotes in it, because grpc quotes the whole.
func (s *service) explainTLS(p *protection, addr net.Addr, err error) error {
	keys := "clients." + s.name + ".tls"
	at := fmt.Sprintf("%s at %v", s.name, addr)
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return explainCertificate(p, keys, at, failed)
	}
	if alert, ok := errors.AsType[*net.OpError](err); ok && alert.Op == opRemote {
		return explainAlert(p, keys, at, alert)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("%s does not speak TLS: give it server.tls.cert_file and key_file, or set %s.mode to insecure: %w", at, keys, err)
	}
	return fmt.Errorf("make TLS with %s: %w", at, err)
}

// explainCertificate is about the instance's certificate.
func explainCertificate(p *protection, keys, at string, failed *tls.CertificateVerificationError) error {
	if len(failed.UnverifiedCertificates) == 0 {
		return fmt.Errorf("make TLS with %s: %w", at, failed)
	}
	leaf := failed.UnverifiedCertificates[0]
	if _, ok := errors.AsType[x509.UnknownAuthorityError](failed.Err); ok {
		roots := "this system's roots: give its authority in " + keys + ".ca_file"
		if p.tls.CAFile != "" {
			roots = keys + ".ca_file (" + p.tls.CAFile + "): add its authority to the file, or have the instance use a certificate of one of these"
		}
		return fmt.Errorf("the certificate of %s, issued by %s, is signed by an authority that is not in %s: %w",
			at, orNobody(leaf.Issuer.String()), roots, failed)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](failed.Err); ok && invalid.Reason == x509.Expired {
		bad := invalid.Cert
		if bad == nil {
			bad = leaf
		}
		what := "has expired at " + bad.NotAfter.Format(time.RFC3339)
		if time.Now().Before(bad.NotBefore) {
			what = "is valid from " + bad.NotBefore.Format(time.RFC3339) + " on only"
		}
		return fmt.Errorf("the certificate of %s %s: renew it at the instance (server.tls.cert_file), or set the clocks right: %w", at, what, failed)
	}
	if _, ok := errors.AsType[x509.HostnameError](failed.Err); ok {
		return fmt.Errorf("the certificate of %s is for %s, not for %s: issue one for that name, or set %s.server_name to a name that it has: %w",
			at, orNobody(strings.Join(leaf.DNSNames, ", ")), p.tls.ServerName, keys, failed)
	}
	if errors.Is(failed.Err, errSPIFFE) {
		ids := make([]string, len(leaf.URIs))
		for i, uri := range leaf.URIs {
			ids[i] = uri.String()
		}
		return fmt.Errorf("the certificate of %s is for %s, not for %s: look which service answers there, or set %s.spiffe_id to an ID that it has: %w",
			at, orNobody(strings.Join(ids, ", ")), p.tls.SPIFFEID, keys, failed)
	}
	return fmt.Errorf("the certificate of %s is of no use: %w", at, failed)
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

// explainAlert is about what the instance says of this client's certificate.
// Package crypto/tls has no type for alerts, only their text.
func explainAlert(p *protection, keys, at string, alert *net.OpError) error {
	var what string
	switch strings.TrimPrefix(alert.Err.Error(), "tls: ") {
	case "certificate required":
		return fmt.Errorf("%s wants a certificate of its callers, and was given none: set %s.mode to mtls, with cert_file and key_file: %w", at, keys, alert)
	case "unknown certificate authority":
		what = "it is signed by an authority that the instance does not know (server.tls.client_ca_file there)"
	case "expired certificate":
		what = "it has expired, or the clocks differ"
	case "bad certificate":
		if p.tls.Mode != TLSMutual { // so does TLS 1.2 say that there was none
			return fmt.Errorf("%s wants a certificate of its callers, and was given none: set %s.mode to mtls, with cert_file and key_file: %w", at, keys, alert)
		}
		what = "it is of no use there; the log of the instance says why"
	default:
		return fmt.Errorf("%s refuses TLS: %w", at, alert)
	}
	return fmt.Errorf("%s refuses the certificate in %s.cert_file (%s): %s: %w", at, keys, p.tls.CertFile, what, alert)
}

// mute is grpc's text for an instance that ended a new connection without a word.
const mute = "error reading server preface: EOF"

// explainMute adds to such an error what it often means where the connection had no
// TLS. An instance that wants it has no words for callers that do not begin it.
func (p *petiole) explainMute(addr string, err error) error {
	if !strings.Contains(err.Error(), mute) {
		return err
	}
	p.mu.Lock()
	v := p.view
	p.mu.Unlock()
	n := v.byAddr[addr]
	if n == nil {
		return err
	}
	if made := n.rest.last.Load(); made == nil || made.tls {
		return err
	}
	return fmt.Errorf("%w: was called without TLS and ended the connection without a word, as one does that wants TLS: "+
		"then set clients.%s.tls.mode, or clients.default.tls.mode (client.Settings.TLS in code), to tls or mtls", err, v.service.name)
}

// ofHandshake reports alerts that are sent in a handshake only (RFC 8446, section
// 6.2): those about certificates and about what both ends can do.
func ofHandshake(alert *net.OpError) bool {
	switch strings.TrimPrefix(alert.Err.Error(), "tls: ") {
	case "certificate required", "bad certificate", "unsupported certificate", "revoked certificate", "expired certificate",
		"unknown certificate", "unknown certificate authority", "access denied", "error decrypting message", "handshake failure":
		return true
	}
	return false
}
