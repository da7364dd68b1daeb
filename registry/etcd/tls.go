package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc/credentials"

	"plinth.internal/internal/tlsfiles"
)

// fileCredentials are TLS credentials that are read from files for each
// handshake. While the files are not good, the latest that were are used.
type fileCredentials struct{ set *tlsfiles.Set }

// newFileCredentials returns nil if the configuration names no files.
func newFileCredentials(cfg Config) (*fileCredentials, error) {
	files := tlsfiles.Files{CA: cfg.CAFile, Cert: cfg.CertFile, Key: cfg.KeyFile}
	switch {
	case files == tlsfiles.Files{}:
		return nil, nil
	case (files.Cert == "") != (files.Key == ""):
		return nil, errors.New("certificate and key: must both be given, or neither")
	case cfg.TLS != nil:
		return nil, errors.New("files for TLS and a configuration for TLS: give one of them")
	}
	for _, endpoint := range cfg.Endpoints {
		if strings.HasPrefix(endpoint, "http:") {
			return nil, fmt.Errorf("files for TLS and endpoint %s without: use https", endpoint)
		}
	}
	f := &fileCredentials{set: tlsfiles.New(files)}
	return f, f.set.Refresh()
}

// credentials are those of the files as they were last good.
func (f *fileCredentials) credentials() credentials.TransportCredentials {
	m := f.set.Current()
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: m.Roots}
	if m.Certificate != nil {
		cfg.Certificates = []tls.Certificate{*m.Certificate}
	}
	return credentials.NewTLS(cfg)
}

func (f *fileCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	_ = f.set.Refresh() // else the files are used as they were
	return f.credentials().ClientHandshake(ctx, authority, conn)
}

func (f *fileCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for clients")
}

func (f *fileCredentials) Info() credentials.ProtocolInfo { return f.credentials().Info() }

// Clone returns f itself, which nothing changes but its files.
func (f *fileCredentials) Clone() credentials.TransportCredentials { return f }

// OverrideServerName is a part of the interface that nobody may use any more.
func (f *fileCredentials) OverrideServerName(string) error {
	return errors.New("the server's name is that of the endpoint")
}
