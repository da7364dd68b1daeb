package framework

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"plinth.internal/client"
	"plinth.internal/internal/tlsfiles/tlstest"
)

// TestTLSSettingsErrors: what does not fit together is named by its key.
func TestTLSSettingsErrors(t *testing.T) {
	for text, want := range map[string]string{
		"server: {tls: {mode: on}}":                                                                              `server.tls.mode: "on" is none of tls, permissive, insecure`,
		"server: {tls: {mode: tls}}":                                                                             `server.tls.cert_file: is empty, but server.tls.mode is tls`,
		"server: {tls: {cert_file: c.pem}}":                                                                      `server.tls.cert_file: "c.pem" and key_file must both be given`,
		"server: {tls: {mode: insecure, cert_file: c.pem, key_file: k.pem}}":                                     `server.tls.mode: "insecure" stands beside files`,
		"server: {tls: {mode: insecure, required: true}}":                                                        `server.tls.mode: "insecure" contradicts server.tls.required`,
		"server: {tls: {client_auth: require}}":                                                                  `server.tls.client_ca_file: is empty, but server.tls.client_auth is require`,
		"server: {tls: {cert_file: c, key_file: k, client_auth: request}}":                                       `server.tls.client_ca_file: is empty, but server.tls.client_auth is request`,
		"server: {tls: {cert_file: c, key_file: k, client_auth: maybe}}":                                         `server.tls.client_auth: "maybe" is none of none, request, require`,
		"server: {tls: {cert_file: c, key_file: k, client_ca_file: a, mode: tls}}":                               "",
		"server: {tls: {required: true}}":                                                                        "",
		"clients: {a: {tls: {mode: on}}}":                                                                        `clients.a.tls.mode: "on" is none of tls, mtls, insecure`,
		"clients: {a: {tls: {mode: mtls, cert_file: c}}}":                                                        `clients.a.tls.cert_file: "c" and key_file must both be given`,
		"clients: {a: {tls: {mode: tls, cert_file: c, key_file: k}}}":                                            `plinth.yaml:1: clients.a.tls.mode: "tls" has no use for cert_file, key_file beside it; leave one of the two out`,
		"clients: {a: {tls: {mode: insecure, ca_file: c, spiffe_id: s}}}":                                        `plinth.yaml:1: clients.a.tls.mode: "insecure" has no use for ca_file, spiffe_id beside it`,
		"clients: {a: {tls: {mode: insecure, server_name: n}}}":                                                  `clients.a.tls.mode: "insecure" has no use for server_name beside it`,
		"clients: {a: {tls: {mode: tls, ca_file: c, server_name: n}}}":                                           "",
		"clients: {a: {tls: {mode: mtls}}}":                                                                      `clients.a, with what it has from less specific levels: set TLS.Mode to mtls: needs CertFile and KeyFile`,
		"clients: {a: {tls: {mode: tls, spiffe_id: 'spiffe://Ex.org/ns'}}}":                                      `clients.a.tls.spiffe_id: "spiffe://Ex.org/ns" is not like`,
		"clients: {a: {tls: {mode: mtls, cert_file: c, key_file: k, spiffe_id: 'spiffe://ex.org/{service}/*'}}}": "",
		"clients: {a: {tls: {ca_file: c}}}":                                                                      `set TLS without a Mode`,
		"clients: {default: {tls: {mode: tls}}, a: {tls: {spiffe_id: 'x://y'}}}":                                 `plinth.yaml:1: clients.a.tls.spiffe_id: "x://y" is not like spiffe://example.org/path`,
		"clients: {default: {tls: {mode: tls}}, a: {tls: {mode: insecure}}, b: {}}":                              "",
	} {
		_, err := bindSettings(t, text+"\n")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v, want\n%s", text, err, want)
		}
		if err != nil && strings.HasPrefix(want, "clients.a.tls.mode") && strings.Count(err.Error(), "validate configuration")+strings.Count(err.Error(), "tls.mode") > 1 {
			t.Errorf("%s is told twice: %v", text, err)
		}
	}
}

// TestClientTLSLevels: the more specific level wins value by value, and does not
// change the less specific one.
func TestClientTLSLevels(t *testing.T) {
	s, err := bindSettings(t, `
clients:
  default:
    tls: {mode: mtls, ca_file: ca.pem, cert_file: c.pem, key_file: k.pem, spiffe_id: "spiffe://example.org/{service}"}
  billing:
    tls: {spiffe_id: spiffe://example.org/legacy}
  legacy:
    tls: {mode: insecure}
  users: {timeout: 1s}
`)
	if err != nil {
		t.Fatal(err)
	}
	all := client.TLS{Mode: client.TLSMutual, CAFile: "ca.pem", CertFile: "c.pem", KeyFile: "k.pem", SPIFFEID: "spiffe://example.org/{service}"}
	billing, legacy := all, all
	billing.SPIFFEID, legacy.Mode = "spiffe://example.org/legacy", client.TLSInsecure
	table := newClientTable(s.Clients)
	for service, want := range map[string]client.TLS{"anybody": all, "users": all, "billing": billing, "legacy": legacy} {
		if got := table.settings(service, "").TLS; got == nil || *got != want {
			t.Errorf("%s: %+v, want %+v", service, got, want)
		}
	}
	if got := newClientTable(nil).settings("users", "").TLS; got != nil {
		t.Errorf("nothing said: %+v", got)
	}
	err = table.checkTLS()
	if err == nil || !strings.Contains(err.Error(), "clients.default.tls: read a file for TLS: open ca.pem") || strings.Contains(err.Error(), "clients.legacy") {
		t.Errorf("files that are not there: %v", err)
	}
}

// TestHealthcheckReadsNoCertificates: what a container's health check asks is
// whether the running instance is well, not whether another one could start.
func TestHealthcheckReadsNoCertificates(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.pem")
	var out bytes.Buffer
	setup := func(context.Context, *Service) error { return nil }
	args := []string{
		"--healthcheck", "--server.admin.addr=127.0.0.1:1", "--server.tls.cert_file=" + missing, "--server.tls.key_file=" + missing,
		"--clients.default.tls.mode=tls", "--clients.default.tls.ca_file=" + missing,
	}
	opts := []Option{WithConfigFile(""), WithEnviron(nil)}
	if code := run("echo", setup, args, &out, &out, nil, opts); code != exitFailed || !strings.Contains(out.String(), "check health") {
		t.Errorf("code %d, %s", code, &out)
	}
	out.Reset()
	if code := run("echo", setup, args[1:4], &out, &out, nil, opts); code != exitUsage || !strings.Contains(out.String(), "none.pem: no such file") {
		t.Errorf("a start: code %d, %s", code, &out)
	}
	out.Reset()
	if code := run("echo", setup, args[4:], &out, &out, nil, opts); code != exitUsage || !strings.Contains(out.String(), "clients.default.tls: ") {
		t.Errorf("a start with files for calls: code %d, %s", code, &out)
	}
	a := tlstest.NewAuthority(t, "a")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "echo", tlstest.Expired()))
	out.Reset()
	if code := run("echo", setup, []string{"--server.tls.cert_file=" + d.Cert, "--server.tls.key_file=" + d.Key}, &out, &out, nil, opts); code != exitUsage ||
		!strings.Contains(out.String(), "server.tls: use certificate from "+d.Cert+": it has expired") {
		t.Errorf("a start with an expired certificate: code %d, %s", code, &out)
	}
}
