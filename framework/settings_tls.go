package framework

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"plinth.internal/client"
	"plinth.internal/config"
	"plinth.internal/server"
)

// The modes of server.tls, and its key.
const (
	tlsUnsaid     = ""
	tlsOn         = "tls"
	tlsPermissive = "permissive"
	tlsInsecure   = "insecure"

	keyTLSMode = "server.tls.mode"
)

type serverTLSSettings struct {
	Mode         string `yaml:"mode" doc:"tls, permissive (callers without TLS are served as well, while they move to it) or insecure; tls unless set where cert_file is given"`
	CertFile     string `yaml:"cert_file" doc:"PEM file with the certificate for gRPC and HTTP and those that lead to its root; a changed file is in use within 1s"`
	KeyFile      string `yaml:"key_file" doc:"PEM file with the key of that certificate"`
	ClientCAFile string `yaml:"client_ca_file" doc:"PEM file with the roots of the callers' certificates"`
	ClientAuth   string `yaml:"client_auth" doc:"none, request (a certificate that is given must be good) or require; require unless set where client_ca_file is given, else none"`
	Required     bool   `yaml:"required" doc:"refuse to start where other machines could call without TLS, whatever the mode says"`
}

// Validate checks what the types cannot. The files are read when the server is
// built.
func (s *serverTLSSettings) Validate() error {
	var v violations
	given := s.CertFile != "" || s.KeyFile != "" || s.ClientCAFile != ""
	v.addf(!oneOf(s.Mode, tlsUnsaid, tlsOn, tlsPermissive, tlsInsecure), "mode", "is none of tls, permissive, insecure")
	v.addf(s.Mode == tlsInsecure && given, "mode", "stands beside files; leave one of the two out")
	v.addf(s.Required && oneOf(s.Mode, tlsInsecure, tlsPermissive), "mode", "contradicts server.tls.required; leave one of the two out")
	v.addf(oneOf(s.Mode, tlsOn, tlsPermissive) && !given, "cert_file", "is empty, but server.tls.mode is %s; give the certificate and its key", s.Mode)
	v.addf(given && (s.CertFile == "" || s.KeyFile == ""), "cert_file", "and key_file must both be given")
	auth := s.ClientAuth
	v.addf(!oneOf(auth, "", server.ClientAuthNone, server.ClientAuthRequest, server.ClientAuthRequire), "client_auth", "is none of none, request, require")
	v.addf(oneOf(auth, server.ClientAuthRequest, server.ClientAuthRequire) && s.ClientCAFile == "",
		"client_ca_file", "is empty, but server.tls.client_auth is %s; give the roots of the callers' certificates", auth)
	v.addf(auth == server.ClientAuthNone && s.ClientCAFile != "", "client_ca_file", "is of no use with client_auth none; leave one of the two out")
	return errors.Join(v...)
}

// server is what the server is built with, nil for no TLS.
func (s *serverTLSSettings) server(events func(server.TLSEvent)) *server.TLS {
	if s.Mode == tlsInsecure || s.CertFile == "" && s.KeyFile == "" && s.ClientCAFile == "" {
		return nil
	}
	return &server.TLS{
		CertFile: s.CertFile, KeyFile: s.KeyFile, ClientCAFile: s.ClientCAFile, ClientAuth: s.ClientAuth,
		Permissive: s.Mode == tlsPermissive, Events: events,
	}
}

type clientTLSSettings struct {
	Mode       string `yaml:"mode" doc:"tls, mtls (with a certificate of our own) or insecure; unless set, connections within this machine are plain and others are refused"`
	CAFile     string `yaml:"ca_file" doc:"PEM file with the roots of the instances' certificates; the system's unless set; changed files are in use within 1s"`
	CertFile   string `yaml:"cert_file" doc:"PEM file with our certificate for mtls and those that lead to its root"`
	KeyFile    string `yaml:"key_file" doc:"PEM file with the key of that certificate"`
	ServerName string `yaml:"server_name" doc:"name that an instance's certificate must have, with {service} for the service; the service's name unless set"`
	SPIFFEID   string `yaml:"spiffe_id" doc:"SPIFFE ID that it must have in place of a name, with {service} for the service: spiffe://example.org/ns/prod/sa/{service}; one that ends in /* stands for all below it"`
}

// Validate checks the mode; what goes with it may stand on another level.
func (c *clientTLSSettings) Validate() error {
	var v violations
	v.addf(!oneOf(c.Mode, "", client.TLSOn, client.TLSMutual, client.TLSInsecure), "mode", "is none of tls, mtls, insecure")
	v.addf((c.CertFile == "") != (c.KeyFile == ""), "cert_file", "and key_file must both be given")
	id := client.TLS{Mode: client.TLSOn, SPIFFEID: c.SPIFFEID}
	v.addf(id.Validate() != nil, "spiffe_id", "is not like spiffe://example.org/path, the domain in lower case, or that with /* at its end")
	return errors.Join(v...)
}

// ValidateStart refuses a mode beside keys that it has no use for where one hand wrote
// both. A place that lies above another may change the mode alone, as the environment
// of one machine does: what is of no use then is told of as without effect.
func (c *clientTLSSettings) ValidateStart(where func(key string) config.Source) error {
	mode := where("mode")
	var unused []string
	check := func(key, value string) {
		at := where(key)
		document := at.Kind == config.KindFile || at.Kind == config.KindFeed
		if value != "" && at.Kind == mode.Kind && (!document || at.Name == mode.Name) {
			unused = append(unused, key)
		}
	}
	if c.Mode == client.TLSInsecure {
		check("ca_file", c.CAFile)
		check("server_name", c.ServerName)
		check("spiffe_id", c.SPIFFEID)
	}
	if c.Mode == client.TLSInsecure || c.Mode == client.TLSOn {
		check("cert_file", c.CertFile)
		check("key_file", c.KeyFile)
	}
	var v violations
	v.addf(len(unused) > 0, "mode", "has no use for %s beside it; leave one of the two out", strings.Join(unused, ", "))
	return errors.Join(v...)
}

// overlay writes to a copy: less specific levels share theirs.
func (c *clientTLSSettings) overlay(s *client.Settings) {
	if *c == (clientTLSSettings{}) {
		return
	}
	var t client.TLS
	if s.TLS != nil {
		t = *s.TLS
	}
	set(&t.Mode, c.Mode)
	set(&t.CAFile, c.CAFile)
	set(&t.CertFile, c.CertFile)
	set(&t.KeyFile, c.KeyFile)
	set(&t.ServerName, c.ServerName)
	set(&t.SPIFFEID, c.SPIFFEID)
	s.TLS = &t
}

// checkTLS reads the files for TLS that the section clients names, so that a
// start fails rather than its first call. Once the service runs, files that turn
// bad change nothing, and a change that names bad ones is not taken; see checkFiles.
func (t *clientTable) checkTLS() error {
	var errs []error
	for _, k := range slices.SortedFunc(maps.Keys(t.resolved), clientKey.compare) {
		if s := t.resolved[k]; k.method == "" && s.TLS != nil {
			if err := s.TLS.Check(); err != nil {
				errs = append(errs, &configError{fmt.Errorf("%v.tls: %w", k, err)})
			}
		}
	}
	return errors.Join(errs...)
}

// unsaid reports that nothing says whether callers need TLS.
func (s *serverTLSSettings) unsaid() bool { return s.Mode == tlsUnsaid && s.server(nil) == nil }

// errUnprotected is the error of a start that would serve other machines without
// TLS although nobody said so.
func errUnprotected(listeners []string, why string) error {
	return &configError{fmt.Errorf("server.tls: calls are taken from other machines without TLS at %s, and %s: give server.tls.cert_file and key_file, "+
		"or say %s=%s (%s=%s) if that is what you want; the calls that this service makes need the same of clients.default.tls.mode",
		strings.Join(listeners, ", "), why, keyTLSMode, tlsInsecure, config.EnvName(keyTLSMode), tlsInsecure)}
}
