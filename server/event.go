package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// TLSEvent is something that happened to the TLS of a server: one of the types
// below.
type TLSEvent interface{ event() }

// TLSReloaded says that changed files are in use for handshakes from now on.
type TLSReloaded struct {
	// Files are their names, separated by commas.
	Files string
	// NotAfter is when the certificate expires.
	NotAfter time.Time
}

// TLSRejected says that changed files are not good, or that the certificate in use
// has expired. What they held before stays in use.
type TLSRejected struct {
	// Err says which file, and what is wrong.
	Err error
	// Kept is set where what stays in use is good.
	Kept bool
}

// The reasons of a [TLSRefused].
const (
	RefusedNoCertificate = "no_certificate"
	RefusedUnknownCA     = "unknown_ca"
	RefusedExpired       = "expired"
	RefusedCertificate   = "certificate" // otherwise of no use
	RefusedByCaller      = "by_caller"   // it does not want this server's certificate
	RefusedPlain         = "plain"       // it does not speak TLS
	RefusedHandshake     = "handshake"   // no common version of TLS, for example
)

// TLSRefused says that callers did not get a connection. It is told at most once
// in 10 s for each reason.
type TLSRefused struct {
	// Listener is the name of the listener, grpc or http.
	Listener string
	// Remote is the address of the last one.
	Remote string
	// Reason is one of the constants above.
	Reason string
	// Times is how many there were since this reason was last told of.
	Times int
	// Err says what was wrong with the last one, and what to do.
	Err error
}

// TLSPlain says that callers without TLS were served, which permissive mode lets.
// It is told at most once in 10 s for each listener.
type TLSPlain struct {
	// Listener is the name of the listener, grpc or http.
	Listener string
	// Remote is the address of the last one.
	Remote string
	// Times is how many connections there were since it was last told.
	Times int
}

func (TLSPlain) event()    {}
func (TLSReloaded) event() {}
func (TLSRejected) event() {}
func (TLSRefused) event()  {}

// refused makes a sentence for a person of what ended a handshake. It reports
// false for connections that were opened and closed again, as probes do.
func (s *secure) refused(listener, remote string, err error) (TLSRefused, bool) {
	e := TLSRefused{Listener: listener, Remote: remote}
	say := func(reason, format string, args ...any) (TLSRefused, bool) {
		e.Reason, e.Err = reason, fmt.Errorf("refuse the connection of %s: "+format, append([]any{remote}, args...)...)
		return e, true
	}
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		who := caller(failed.UnverifiedCertificates)
		if _, ok := errors.AsType[x509.UnknownAuthorityError](failed.Err); ok {
			return say(RefusedUnknownCA, "the certificate of %s is signed by an authority that is not in server.tls.client_ca_file (%s): "+
				"have it issued by one of these, or add its authority to the file", who, s.cfg.ClientCAFile)
		}
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](failed.Err); ok && invalid.Reason == x509.Expired {
			return say(RefusedExpired, "the certificate of %s is not valid now (%s): renew it, or set the clocks right", who, invalid.Detail)
		}
		return say(RefusedCertificate, "the certificate of %s is of no use: %w", who, failed.Err)
	}
	if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return say(RefusedPlain, "it does not speak TLS (its first bytes are %q): set clients.<service>.tls.mode at the caller to tls or mtls, "+
			"or server.tls.mode here to permissive while callers move to TLS", plain.RecordHeader[:])
	}
	if told, ok := errors.AsType[*net.OpError](err); ok && told.Op == "remote error" {
		return say(RefusedByCaller, "it does not want the certificate in server.tls.cert_file (%s): %w: look at its error", s.cfg.CertFile, told.Err)
	}
	// crypto/tls has no types for what follows.
	if strings.Contains(err.Error(), "client didn't provide a certificate") {
		return say(RefusedNoCertificate, "it gives no certificate, and server.tls.client_auth is require: "+
			"set clients.<service>.tls at the caller to mode mtls with cert_file and key_file")
	}
	if strings.HasPrefix(err.Error(), "tls: ") {
		return say(RefusedHandshake, "%w", err)
	}
	return e, false
}
