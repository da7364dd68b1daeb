package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"plinth.internal/internal/tlsfiles"
)

// What the listeners for calls want of the callers' certificates.
const (
	// ClientAuthNone asks for none.
	ClientAuthNone = "none"
	// ClientAuthRequest checks one that is given.
	ClientAuthRequest = "request"
	// ClientAuthRequire refuses who gives none.
	ClientAuthRequire = "require"
)

// TLS protects the listeners for gRPC and HTTP; the admin listener stays as it
// is, for probes and scrapers. It means TLS 1.2 at least. The files are read by
// [New], which errs if they are not good, and again within a second whenever they
// change: handshakes from then on use them, connections that are there stay.
// Files that are not good change nothing; see [Server.TLSStatus].
type TLS struct {
	// CertFile and KeyFile are PEM files with the certificate, those that lead
	// from it to its root, and the key; required.
	CertFile, KeyFile string
	// ClientCAFile is a PEM file with the roots of the callers' certificates.
	ClientCAFile string
	// ClientAuth is [ClientAuthNone], [ClientAuthRequest] or
	// [ClientAuthRequire]; "" means require with a ClientCAFile, else none.
	ClientAuth string
	// Permissive takes connections without TLS as well, for the time in which
	// callers move to it.
	Permissive bool
	// Events is told what happens, concurrently and with no lock held; nil drops
	// it.
	Events func(TLSEvent)
}

func (t *TLS) files() tlsfiles.Files {
	return tlsfiles.Files{CA: t.ClientCAFile, Cert: t.CertFile, Key: t.KeyFile}
}

// clientAuth is ClientAuth with its default.
func (t *TLS) clientAuth() string {
	switch {
	case t.ClientAuth != "":
		return t.ClientAuth
	case t.ClientCAFile != "":
		return ClientAuthRequire
	}
	return ClientAuthNone
}

// Validate checks that the fields fit together; it reads no file. The error
// names the keys of the configuration.
func (t *TLS) Validate() error {
	var errs []error
	add := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	add(t.CertFile == "" || t.KeyFile == "", "server.tls: cert_file and key_file must both be given")
	auth := t.clientAuth()
	switch auth {
	case ClientAuthNone:
		add(t.ClientCAFile != "", "server.tls.client_ca_file: is of no use with client_auth none; set request or require, or leave the file out")
	case ClientAuthRequest, ClientAuthRequire:
		add(t.ClientCAFile == "", "server.tls.client_ca_file: is empty, but client_auth is "+auth+"; give the file with the roots of the callers' certificates")
	default:
		errs = append(errs, fmt.Errorf("server.tls.client_auth: %q is none of none, request, require", auth))
	}
	return errors.Join(errs...)
}

// TLSStatus is what is known of the files.
type TLSStatus struct {
	// Files are their names, separated by commas.
	Files string
	// NotAfter is when the certificate in use expires.
	NotAfter time.Time
	// RenewBy is when it should have been renewed: seven days before, or a third
	// of its life if that is less.
	RenewBy time.Time
	// Err is why what the files hold is not in use, or why what is in use is
	// of no use any more; nil while all is well.
	Err error
}

// TLSStatus tells of the files for TLS; ok is false for a server without.
func (s *Server) TLSStatus() (status TLSStatus, ok bool) {
	if s.secure == nil {
		return TLSStatus{}, false
	}
	set := s.secure.set
	return TLSStatus{Files: set.Files().String(), NotAfter: set.Current().NotAfter(), RenewBy: set.Current().RenewBy(), Err: set.Err(time.Now())}, true
}

// secure is the TLS of one server.
type secure struct {
	cfg      TLS
	set      *tlsfiles.Set
	refusals refusals
	plain    refusals // of nobody: the callers without TLS, by the listener
}

func newSecure(cfg TLS) (*secure, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("build server: %w", err)
	}
	if cfg.Events == nil {
		cfg.Events = func(TLSEvent) {}
	}
	s := &secure{cfg: cfg, set: tlsfiles.New(cfg.files())}
	err := s.set.Refresh()
	if err == nil {
		err = s.set.Current().Valid(time.Now())
	}
	if err != nil {
		return nil, fmt.Errorf("build server: server.tls: %w", err)
	}
	return s, nil
}

// follow keeps the files in use until ctx ends, and tells what happens.
func (s *secure) follow(ctx context.Context) {
	sets := []*tlsfiles.Set{s.set}
	each := func() []*tlsfiles.Set {
		for _, e := range s.refusals.due(time.Now()) {
			s.cfg.Events(e)
		}
		for _, e := range s.plain.due(time.Now()) {
			s.cfg.Events(e.served())
		}
		return sets
	}
	tlsfiles.Follow(ctx, each, func(set *tlsfiles.Set, err error) {
		if err != nil {
			s.cfg.Events(TLSRejected{Err: fmt.Errorf("server.tls: %w", err), Kept: set.Current().Valid(time.Now()) == nil})
			return
		}
		s.cfg.Events(TLSReloaded{Files: set.Files().String(), NotAfter: set.Current().NotAfter()})
	})
}

// config is for one handshake.
func (s *secure) config(protos []string) *tls.Config {
	m := s.set.Current()
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protos, Certificates: []tls.Certificate{*m.Certificate}, ClientCAs: m.Roots,
		// A resumed session would not ask for the caller's certificate again,
		// and connections are few and live long.
		SessionTicketsDisabled: true,
	}
	switch s.cfg.clientAuth() {
	case ClientAuthRequest:
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	case ClientAuthRequire:
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg
}

// handshake makes TLS of a connection that was accepted. In permissive mode one
// without TLS is returned as it is. What the caller offers for ALPN is told to
// offered.
func (s *secure) handshake(ctx context.Context, raw net.Conn, protos []string, offered func(protos []string)) (net.Conn, error) {
	if s.cfg.Permissive {
		peeked, isTLS, err := peek(ctx, raw)
		if err != nil || !isTLS {
			return peeked, err
		}
		raw = peeked
	}
	cfg := s.config(protos)
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offered(hello.SupportedProtos)
		return nil, nil
	}
	conn := tls.Server(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return conn, nil
}

// peeked is a connection whose first byte was read already.
type peeked struct {
	net.Conn

	first []byte // of the goroutine that reads
}

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.first) > 0 && len(b) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// recordHandshake is the first byte of TLS (RFC 8446, section 5.1). No method of
// HTTP begins with it.
const recordHandshake = 22

// peek tells TLS from anything else.
func peek(ctx context.Context, raw net.Conn) (conn net.Conn, isTLS bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = raw.SetReadDeadline(time.Now()) })
	first := make([]byte, 1)
	_, err = raw.Read(first)
	if !stop() && err == nil {
		err = ctx.Err() // the deadline is set now, or will be
	}
	if err != nil {
		return nil, false, err
	}
	return &peeked{Conn: raw, first: first}, first[0] == recordHandshake, nil
}

// transportCredentials tell grpc what [tlsListener] has made of a connection.
type transportCredentials struct {
	credentials.TransportCredentials
}

func newTransportCredentials() credentials.TransportCredentials {
	return transportCredentials{insecure.NewCredentials()} // for those without TLS, in permissive mode
}

// ServerHandshake finds the handshake done.
func (c transportCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var state tls.ConnectionState
	switch t := conn.(type) {
	case *tls.Conn:
		state = t.ConnectionState()
	case *sharedConn:
		if t.state == nil {
			return c.TransportCredentials.ServerHandshake(conn)
		}
		state = *t.state
	default:
		return c.TransportCredentials.ServerHandshake(conn)
	}
	return conn, credentials.TLSInfo{
		State: state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

func (c transportCredentials) Clone() credentials.TransportCredentials { return c }

// caller names who a certificate is for.
func caller(certs []*x509.Certificate) string {
	if len(certs) == 0 {
		return "a caller without certificate"
	}
	leaf := certs[0]
	switch {
	case len(leaf.URIs) > 0:
		return leaf.URIs[0].String()
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	}
	return leaf.Subject.String()
}

// refusals keeps one kind of them from filling the log.
type refusals struct {
	mu   sync.Mutex
	kept map[string]*refusal // by reason
}

type refusal struct {
	told  time.Time
	times int // since then
	last  TLSRefused
}

// refusalPause is the least time between two events for one reason.
const refusalPause = 10 * time.Second

// add counts a refusal, and returns the event if it is to be told now.
func (r *refusals) add(now time.Time, e TLSRefused) (TLSRefused, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept == nil {
		r.kept = map[string]*refusal{}
	}
	k := r.kept[e.Reason]
	if k == nil {
		k = &refusal{}
		r.kept[e.Reason] = k
	}
	k.times++
	k.last = e
	return k.tellLocked(now)
}

func (k *refusal) tellLocked(now time.Time) (TLSRefused, bool) {
	if k.times == 0 || !k.told.IsZero() && now.Sub(k.told) < refusalPause {
		return TLSRefused{}, false
	}
	e := k.last
	e.Times = k.times
	k.told, k.times, k.last = now, 0, TLSRefused{}
	return e, true
}

// served makes of a refusal what it is in permissive mode.
func (e TLSRefused) served() TLSPlain {
	return TLSPlain{Listener: e.Listener, Remote: e.Remote, Times: e.Times}
}

// due are the events that were held back long enough.
func (r *refusals) due(now time.Time) []TLSRefused {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []TLSRefused
	for _, k := range r.kept {
		if e, ok := k.tellLocked(now); ok {
			out = append(out, e)
		}
	}
	return out
}
