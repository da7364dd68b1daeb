package etcd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// authority is a certificate authority for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key, _ = a.issue("authority")
	return a
}

// issue makes a certificate for 127.0.0.1, signed by the authority, or by
// itself if that is what it is for. It returns it in PEM form as well.
func (a *authority) issue(name string) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// writeFiles puts the authority's certificate, and a new one for the client,
// into the directory.
func (a *authority) writeFiles(dir, name string) Config {
	a.t.Helper()
	_, key, cert := a.issue(name)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	cfg := Config{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	for path, data := range map[string][]byte{
		cfg.CAFile:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}),
		cfg.CertFile: cert,
		cfg.KeyFile:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cfg
}

// tlsFront is what etcd looks like with TLS: it asks for a certificate of its
// authority, and passes what it decrypts on to a plain etcd.
type tlsFront struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu     sync.Mutex
	ca     *authority
	seen   []string // the names of the clients
	conns  []net.Conn
	closed bool
}

func newTLSFront(t *testing.T, ca *authority, target string) *tlsFront {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &tlsFront{listener: listener, target: target, ca: ca}
	f.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		f.mu.Lock()
		f.closed = true
		f.mu.Unlock()
		listener.Close()
		f.cut()
		f.wg.Wait()
	})
	return f
}

func (f *tlsFront) serve(plain net.Conn) {
	defer plain.Close()
	f.mu.Lock()
	cert, key, _ := f.ca.issue("etcd")
	roots := x509.NewCertPool()
	roots.AddCert(f.ca.cert)
	f.mu.Unlock()
	conn := tls.Server(plain, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
		NextProtos:   []string{"h2"},
	})
	defer conn.Close()
	if conn.Handshake() != nil {
		return
	}
	back, err := net.Dial("tcp", f.target)
	if err != nil {
		return
	}
	defer back.Close()
	f.mu.Lock()
	f.seen = append(f.seen, conn.ConnectionState().PeerCertificates[0].Subject.CommonName)
	f.conns = append(f.conns, plain, back)
	closed := f.closed
	f.mu.Unlock()
	if closed {
		return
	}
	f.wg.Go(func() {
		_, _ = io.Copy(back, conn)
		back.Close()
	})
	_, _ = io.Copy(conn, back)
}

// cut ends all connections, and lets the next ones be those of the authority.
func (f *tlsFront) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.conns {
		conn.Close()
	}
	f.conns = nil
}

func (f *tlsFront) trust(ca *authority) {
	f.mu.Lock()
	f.ca = ca
	f.mu.Unlock()
	f.cut()
}

func (f *tlsFront) saw(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seen) > 0 && f.seen[len(f.seen)-1] == name
}

func TestCertificatesAreReloaded(t *testing.T) {
	s := newServer(t)
	first, second := newAuthority(t), newAuthority(t)
	front := newTLSFront(t, first, s.addr)
	dir := t.TempDir()
	cfg := first.writeFiles(dir, "orders-1")
	cfg.Endpoints = []string{front.listener.Addr().String()}
	client, err := Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	reg := Open(client)
	defer reg.Close()
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	if status := reg.Status(); status.State != "registered" || !front.saw("orders-1") {
		t.Fatalf("Status = %+v, clients %v; want it registered as orders-1", status, front.seen)
	}

	// Renewed by the same authority.
	first.writeFiles(dir, "orders-2")
	front.cut()
	within(t, 5*time.Second, "connection with the renewed certificate", func() bool { return front.saw("orders-2") })
	// Half written: what was there last does.
	if err := os.WriteFile(cfg.KeyFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	front.mu.Lock()
	front.seen = nil
	front.mu.Unlock()
	front.cut()
	within(t, 5*time.Second, "connection while the files do not match", func() bool { return front.saw("orders-2") })
	// Another authority.
	second.writeFiles(dir, "orders-3")
	front.trust(second)
	within(t, 5*time.Second, "connection under the new authority", func() bool { return front.saw("orders-3") })
	inst := testInstance()
	inst.Weight = 11
	within(t, 5*time.Second, "update", func() bool {
		return reg.Announce(t.Context(), inst) == nil && reg.Status().Err == nil
	})
}

func TestDialRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	good := newAuthority(t).writeFiles(dir, "orders")
	other := newAuthority(t).writeFiles(t.TempDir(), "orders")
	bad := filepath.Join(dir, "bad.pem")
	if err := os.WriteFile(bad, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"no key", Config{CertFile: good.CertFile}, "certificate and key: must both be given"},
		{"no certificate", Config{KeyFile: good.KeyFile}, "certificate and key: must both be given"},
		{"both kinds", Config{CAFile: good.CAFile, TLS: &tls.Config{}}, "give one of them"},
		{"plain endpoint", Config{CAFile: good.CAFile, Endpoints: []string{"http://h:1"}}, "endpoint http://h:1 without: use https"},
		{"missing", Config{CAFile: filepath.Join(dir, "none.pem")}, "none.pem: no such file"},
		{"no roots", Config{CAFile: bad}, "there is no certificate in PEM form"},
		{"bad certificate", Config{CertFile: bad, KeyFile: good.KeyFile}, "read certificate from " + bad},
		{"key of another", Config{CertFile: good.CertFile, KeyFile: other.KeyFile}, "private key does not match"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.cfg.Endpoints == nil {
				tt.cfg.Endpoints = []string{"h:1"}
			}
			client, err := Dial(tt.cfg)
			if err == nil {
				client.Close()
				t.Fatal("Dial returned no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to contain %q", err, tt.want)
			}
		})
	}
	good.Endpoints = []string{"https://127.0.0.1:1"}
	client, err := Dial(good)
	if err != nil {
		t.Fatalf("Dial with files and https: %v", err)
	}
	client.Close()
}
