package etcd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

const (
	// reconnectMax is the longest wait between two attempts to connect. With
	// grpc's two minutes an etcd that is back is noticed up to a minute late.
	// An attempt to a dead port costs next to nothing, so be quick.
	reconnectMax = time.Second
	// connectTimeout is the time an attempt to connect may take.
	connectTimeout = 3 * time.Second
	// keepaliveTime and keepaliveTimeout find a connection that is open but
	// carries nothing, which TCP alone would notice after many minutes. Grpc
	// knows no shorter time.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 3 * time.Second
)

// Config says how to reach etcd.
type Config struct {
	// Endpoints are the members, host:port or a URL with http or https, without a
	// user or a password. There must be at least one.
	Endpoints []string
	// Username and Password are sent if the user is not empty. The client
	// logs in when it first needs to, and again when its token has expired.
	Username string
	Password string
	// TLS is the configuration for endpoints that are not http URLs; nil means
	// no TLS, except for https URLs, which then use the system's roots.
	TLS *tls.Config
	// CAFile, CertFile and KeyFile are PEM files, and turn on TLS for all
	// endpoints: the roots that the members' certificates are checked against,
	// and the certificate and key that the client shows. Without CAFile the
	// system's roots are used, without the others the client shows nothing.
	// They are read for each new connection, so that a renewed certificate
	// needs no restart; while a file cannot be read, what it had last is used.
	// They exclude TLS.
	CAFile   string
	CertFile string
	KeyFile  string
}

// Dial returns a client for the registry and for other uses. It never blocks:
// it connects in the background, for ever, and an etcd that is down, or that
// refuses the password, makes the operations fail and not this function. It
// returns an error if the configuration cannot be right. The caller closes the
// client, after the registries that use it.
func Dial(cfg Config) (*clientv3.Client, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("dial etcd: no endpoints, give at least one such as 127.0.0.1:2379")
	}
	for i, e := range cfg.Endpoints {
		if strings.Contains(e, "@") { // not shown, for the same reason
			return nil, fmt.Errorf("dial etcd: endpoint %d has a user or a password in it, which would be shown with the rest of it; "+
				"give them as the username and the password", i+1)
		}
	}
	if cfg.Username == "" && cfg.Password != "" {
		return nil, errors.New("dial etcd: a password without a username; give both or none")
	}
	if cfg.Username != "" && cfg.Password == "" {
		return nil, fmt.Errorf("dial etcd: no password for user %q; give both or none", cfg.Username)
	}
	files, err := newFileCredentials(cfg)
	if err != nil {
		return nil, fmt.Errorf("dial etcd: %w", err)
	}
	connect := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}
	connect.Backoff.BaseDelay = 100 * time.Millisecond
	connect.Backoff.MaxDelay = reconnectMax
	config := clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		DialKeepAliveTime:    keepaliveTime,
		DialKeepAliveTimeout: keepaliveTimeout,
		DialOptions:          []grpc.DialOption{grpc.WithConnectParams(connect)},
		Logger:               zap.NewNop(),
	}
	if files != nil {
		config.DialOptions = append(config.DialOptions, grpc.WithTransportCredentials(files))
	}
	if cfg.Username != "" {
		// With a user, clientv3.New logs in before it returns, and fails while
		// etcd is down. With a token it does not; the server refuses this one,
		// and then the client logs in with the user it finds.
		config.Token = "none"
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("dial etcd at %v: %w", cfg.Endpoints, err)
	}
	if cfg.Username != "" {
		client.Token, client.Username, client.Password = "", cfg.Username, cfg.Password
	}
	return client, nil
}
