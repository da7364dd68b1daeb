package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc/credentials"
)

// fileCredentials are TLS credentials that are read from files for each
// handshake. The files are taken together: while one of them is missing, or
// does not match the others, the latest ones that did are used, because they
// are replaced one after the other.
type fileCredentials struct {
	ca, cert, key string

	mu   sync.Mutex
	last credentials.TransportCredentials
}

// newFileCredentials returns nil if the configuration names no files.
func newFileCredentials(cfg Config) (*fileCredentials, error) {
	f := &fileCredentials{ca: cfg.CAFile, cert: cfg.CertFile, key: cfg.KeyFile}
	switch {
	case f.ca == "" && f.cert == "" && f.key == "":
		return nil, nil
	case (f.cert == "") != (f.key == ""):
		return nil, errors.New("certificate and key: must both be given, or neither")
	case cfg.TLS != nil:
		return nil, errors.New("files for TLS and a configuration for TLS: give one of them")
	}
	for _, endpoint := range cfg.Endpoints {
		if strings.HasPrefix(endpoint, "http:") {
			return nil, fmt.Errorf("files for TLS and endpoint %s without: use https", endpoint)
		}
	}
	_, err := f.read()
	return f, err
}

// read reads the files and keeps what was in them.
func (f *fileCredentials) read() (credentials.TransportCredentials, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read roots from %s: there is no certificate in PEM form", f.ca)
		}
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("read certificate from %s and key from %s: %w", f.cert, f.key, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	creds := credentials.NewTLS(cfg)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = creds
	return creds, nil
}

func (f *fileCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	creds, err := f.read()
	if err != nil {
		f.mu.Lock()
		creds = f.last
		f.mu.Unlock()
	}
	return creds.ClientHandshake(ctx, authority, conn)
}

func (f *fileCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for clients")
}

func (f *fileCredentials) Info() credentials.ProtocolInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last.Info()
}

// Clone returns f itself, which nothing changes but its files.
func (f *fileCredentials) Clone() credentials.TransportCredentials { return f }

// OverrideServerName is a part of the interface that nobody may use any more.
func (f *fileCredentials) OverrideServerName(string) error {
	return errors.New("the server's name is that of the endpoint")
}
