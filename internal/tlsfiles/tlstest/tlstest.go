// Package tlstest makes certificates for tests: authorities, certificates of
// theirs, and the files that they stand in. Whatever fails ends the test.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// T is the part of testing.TB that this package uses.
type T interface {
	Helper()
	Fatal(args ...any)
}

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority with a key of its own.
func NewAuthority(t T, name string) *Authority {
	t.Helper()
	a := &Authority{}
	a.cert, a.key = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// PEM is the authority's own certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Pair is a certificate and its key in PEM form.
type Pair struct{ Cert, Key []byte }

// Option changes a certificate before it is signed.
type Option func(*x509.Certificate)

// Expired makes it one of yesterday.
func Expired() Option {
	return func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	}
}

// Until has it expire at a time.
func Until(end time.Time) Option { return func(c *x509.Certificate) { c.NotAfter = end } }

// ID gives it a SPIFFE ID, and no name.
func ID(id string) Option {
	return func(c *x509.Certificate) {
		u, err := url.Parse(id)
		if err != nil {
			u = &url.URL{Opaque: err.Error()} // it will match nothing
		}
		c.URIs, c.DNSNames = append(c.URIs, u), nil
	}
}

// Issue makes a certificate for a name, good for both ends.
func (a *Authority) Issue(t T, name string, opts ...Option) Pair {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, o := range opts {
		o(template)
	}
	cert, key := a.sign(t, template)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}
}

// sign signs with the authority's key, or with the new one while there is none.
func (a *Authority) sign(t T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// Dir is a directory with the three files that one side needs.
type Dir struct{ CA, Cert, Key string }

// NewDir names the files in a directory, and writes them.
func NewDir(t T, dir string, ca []byte, pair Pair) Dir {
	t.Helper()
	d := Dir{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	d.Write(t, ca, pair)
	return d
}

// Write writes the files one after the other, as whoever renews them does.
func (d Dir) Write(t T, ca []byte, pair Pair) {
	t.Helper()
	for name, data := range map[string][]byte{d.CA: ca, d.Cert: pair.Cert, d.Key: pair.Key} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
