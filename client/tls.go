package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"plinth.internal/internal/tlsfiles"
)

// The modes of [TLS].
const (
	// TLSInsecure is a connection without TLS: anybody on the way can read and
	// change what is sent.
	TLSInsecure = "insecure"
	// TLSOn is TLS that checks who the instance is.
	TLSOn = "tls"
	// TLSMutual is TLS in which the instance checks this client as well.
	TLSMutual = "mtls"
)

// TLS says how the connections to a service are protected. A change counts for
// connections that are made from then on, over HTTP for requests that begin from
// then on, as they are made over new connections. It means TLS 1.2 at least.
//
// The files are read again within a second whenever they change, and taken
// together or not at all: while they are not good the last ones that were stay in
// use, for new connections; see [Client.TLSStatus].
type TLS struct {
	// Mode is [TLSInsecure], [TLSOn] or [TLSMutual]. "" is for connections
	// within this machine, which are made without TLS; any other is refused.
	Mode string
	// CAFile is a PEM file with the roots of the instances' certificates; ""
	// means those of the system.
	CAFile string
	// CertFile and KeyFile are PEM files with this client's certificate, those
	// that lead from it to its root, and the key. Only mode mtls uses them.
	CertFile, KeyFile string
	// ServerName is the name that must stand in an instance's certificate, and
	// that is sent as the one that is wanted (SNI); {service} in it stands for
	// the service. "" means the service's name. The addresses that the registry
	// gives are never checked: they are no names.
	ServerName string
	// SPIFFEID is the ID that must stand in an instance's certificate, in place
	// of ServerName: spiffe://trust.domain/path, with {service} for the
	// service. An ID that ends in "/*" stands for all below it. "" means that
	// ServerName is checked.
	SPIFFEID string
}

// protects reports whether there is TLS at all.
func (t *TLS) protects() bool { return t != nil && (t.Mode == TLSOn || t.Mode == TLSMutual) }

// files are those that the mode uses.
func (t *TLS) files() tlsfiles.Files {
	switch {
	case !t.protects():
		return tlsfiles.Files{}
	case t.Mode == TLSMutual:
		return tlsfiles.Files{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile}
	}
	return tlsfiles.Files{CA: t.CAFile}
}

// Validate checks that the fields fit together; it reads no file.
func (t *TLS) Validate() error {
	if t == nil {
		return nil
	}
	var errs []error
	addf := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	addf(t.Mode == "" && *t != TLS{}, "set TLS without a Mode: say tls, mtls or insecure")
	addf(!slices.Contains([]string{"", TLSInsecure, TLSOn, TLSMutual}, t.Mode), "set TLS.Mode to %q: must be one of insecure, tls, mtls", t.Mode)
	addf(t.Mode == TLSMutual && (t.CertFile == "" || t.KeyFile == ""), "set TLS.Mode to mtls: needs CertFile and KeyFile")
	addf(t.SPIFFEID != "" && !validSPIFFE(t.SPIFFEID), "set TLS.SPIFFEID to %q: must be like spiffe://trust.domain/path, or end in /*", t.SPIFFEID)
	return errors.Join(errs...)
}

// Check reads the files that the mode uses and returns what is wrong with them:
// for a start that is to fail rather than its first call.
func (t *TLS) Check() error {
	if t.files() == (tlsfiles.Files{}) {
		return nil
	}
	m, err := tlsfiles.Read(t.files())
	if err != nil {
		return err
	}
	return m.Valid(time.Now())
}

// of is a copy with the service's name in it.
func (t *TLS) of(service string) TLS {
	c := *t
	c.ServerName = strings.ReplaceAll(c.ServerName, "{service}", service)
	c.SPIFFEID = strings.ReplaceAll(c.SPIFFEID, "{service}", service)
	if c.ServerName == "" {
		c.ServerName = service
	}
	return c
}

// config is for one handshake with an instance.
func (t *TLS) config(m *tlsfiles.Material, protos []string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, RootCAs: m.Roots, NextProtos: protos}
	if cert := m.Certificate; cert != nil {
		// Always the same: an instance that does not want it shall say so, not
		// that there was none.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	if t.SPIFFEID != "" {
		// The library's own check wants a name of DNS; ours is as strict.
		cfg.InsecureSkipVerify = true // VerifyConnection verifies the chain and the ID
		cfg.VerifyConnection = func(state tls.ConnectionState) error {
			return verifySPIFFE(state.PeerCertificates, m.Roots, t.SPIFFEID)
		}
	}
	return cfg
}

// verifySPIFFE checks the chain and the ID of an instance's certificate.
func verifySPIFFE(certs []*x509.Certificate, roots *x509.CertPool, want string) error {
	if len(certs) == 0 {
		return errors.New("tls: the server gave no certificate")
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := certs[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	// "An X.509 SVID MUST contain exactly one URI SAN" - SPIFFE X509-SVID, section 2
	if uris := certs[0].URIs; len(uris) != 1 || certs[0].IsCA || !matchesSPIFFE(uris[0].String(), want) {
		return &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: errSPIFFE}
	}
	return nil
}

// errSPIFFE stands for an ID that is not the wanted one.
var errSPIFFE = errors.New("it has another SPIFFE ID")

const schemeSPIFFE = "spiffe://"

// matchesSPIFFE compares an ID with an ID or a prefix. Both are taken to the
// letter, as SPIFFE-ID, section 2 has them.
func matchesSPIFFE(id, want string) bool {
	if prefix, ok := strings.CutSuffix(want, "*"); ok {
		rest, ok := strings.CutPrefix(id, prefix)
		return ok && rest != ""
	}
	return id == want
}

// validSPIFFE accepts an ID, or a prefix that ends in "/*".
func validSPIFFE(id string) bool {
	id = strings.ReplaceAll(id, "{service}", "s")
	id, wild := strings.CutSuffix(id, "/*")
	rest, ok := strings.CutPrefix(id, schemeSPIFFE)
	domain, path, _ := strings.Cut(rest, "/")
	if !ok || domain == "" || strings.ContainsFunc(domain, notInTrustDomain) || strings.ContainsFunc(path, notInSPIFFEPath) {
		return false
	}
	if path == "" {
		return wild && rest == domain
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

func notInTrustDomain(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
}

func notInSPIFFEPath(r rune) bool {
	return r != '/' && notInTrustDomain(r) && (r < 'A' || r > 'Z')
}

// protection is what a connection to a service is made with.
type protection struct {
	tls TLS
	set *tlsfiles.Set // nil for no files
}

// material is what its files hold.
func (p *protection) material() *tlsfiles.Material {
	if p.set == nil {
		return &tlsfiles.Material{}
	}
	return p.set.Current()
}

// protection finds what the settings say. Files that were never good leave in
// use what was, unless that was no TLS.
func (s *service) protection() (*protection, error) {
	t := s.settings("").TLS
	if t == nil {
		return &protection{}, nil
	}
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("protect the connections to %s: %w", s.name, err)
	}
	p := &protection{tls: t.of(s.name)}
	if files := t.files(); files != (tlsfiles.Files{}) {
		set, err := s.client.tls.set(s.client, files)
		if err != nil {
			if last := s.protected.Load(); last != nil {
				return last, nil
			}
			return nil, fmt.Errorf("protect the connections to %s, clients.%s.tls: %w", s.name, s.name, err)
		}
		p.set = set
	}
	if p.tls.protects() {
		s.protected.Store(p)
	}
	return p, nil
}

// handshakeTimeout is the longest that TLS may take where nothing else bounds it.
const handshakeTimeout = 3 * time.Second

// secured makes of a connection to an instance what the settings want: TLS, or
// the connection as it is. If it errs the connection is closed.
func (s *service) secured(ctx context.Context, raw net.Conn, protos ...string) (net.Conn, error) {
	p, err := s.protection()
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	switch {
	case p.tls.protects():
	case p.tls.Mode == TLSInsecure || isLocal(raw):
		return raw, nil
	default:
		addr := raw.RemoteAddr()
		_ = raw.Close()
		return nil, fmt.Errorf("connect to %s at %v: nothing says how connections to other machines are protected: "+
			"set clients.%s.tls.mode, or clients.default.tls.mode (client.Settings.TLS in code), to tls, mtls or, where that is what you want, insecure", s.name, addr, s.name)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	m := p.material()
	conn := tls.Client(raw, p.tls.config(m, protos))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, s.explainTLS(p, raw.RemoteAddr(), err)
	}
	return &securedConn{Conn: conn, service: s, protection: p}, nil
}

// isLocal reports a connection that does not leave this machine.
func isLocal(conn net.Conn) bool {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || remote.IP.IsLoopback() {
		return true // in memory, a socket of Unix, loopback
	}
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	return ok && local.IP.Equal(remote.IP)
}

// securedConn is a connection whose errors say what is wrong with TLS. With TLS
// 1.3 an instance that does not want this client's certificate says so only after
// the handshake, when a request may be on its way. It has looked at none then.
type securedConn struct {
	*tls.Conn

	service    *service
	protection *protection
	answered   bool // something came; of the goroutine that reads
}

func (c *securedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		if alert, ok := errors.AsType[*net.OpError](err); ok && alert.Op == opRemote {
			err = c.service.explainTLS(c.protection, c.RemoteAddr(), err)
			if !c.answered && ofHandshake(alert) {
				err = &dialError{err}
			}
		}
	}
	c.answered = c.answered || n > 0
	return n, err
}
