// Package access is how commands reach the registry of running services: the
// flags they share, the connection, and what its errors mean to a person.
//
// A flag's default comes from the variable that services themselves read, so
// a shell that can start a service can look at it. The password has no flag:
// command lines are seen by others.
package access

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"plinth.internal/cmd/scaffold/internal/ui"
	configetcd "plinth.internal/config/etcd"
	"plinth.internal/registry/etcd"
)

// The variables that the flags default to. Services read the same ones.
const (
	EnvEndpoints = "PLINTH_REGISTRY_ENDPOINTS"
	EnvNamespace = "PLINTH_REGISTRY_NAMESPACE"
	EnvUser      = "PLINTH_REGISTRY_USERNAME"
	EnvPassword  = "PLINTH_REGISTRY_PASSWORD" //nolint:gosec // the name of a variable
	EnvCAFile    = "PLINTH_REGISTRY_TLS_CA_FILE"
	EnvCertFile  = "PLINTH_REGISTRY_TLS_CERT_FILE"
	EnvKeyFile   = "PLINTH_REGISTRY_TLS_KEY_FILE"
)

// Flags are what a command was told about the registry.
type Flags struct {
	endpoints []string
	namespace string
	user      string

	caFile, certFile, keyFile string
}

// Add adds the flags to a command.
func (f *Flags) Add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.endpoints, "endpoints", nil, "addresses of etcd, separated by commas (default $"+EnvEndpoints+")")
	flags.StringVar(&f.namespace, "namespace", "", "prefix of all keys (default $"+EnvNamespace+", or "+etcd.DefaultNamespace+")")
	flags.StringVar(&f.user, "user", "", "user for etcd; the password is $"+EnvPassword+" (default $"+EnvUser+")")
	flags.StringVar(&f.caFile, "ca-file", "", "roots that etcd's certificates are checked against; turns on TLS (default $"+EnvCAFile+")")
	flags.StringVar(&f.certFile, "cert-file", "", "certificate to show to etcd (default $"+EnvCertFile+")")
	flags.StringVar(&f.keyFile, "key-file", "", "key of that certificate (default $"+EnvKeyFile+")")
}

// Registry is an open connection. Close it.
type Registry struct {
	*etcd.Operator

	// Documents are the central documents of the same namespace.
	Documents *configetcd.Store

	endpoints []string
	close     func() error
}

// Open connects; it does not wait for etcd. The error is one of usage.
func (f *Flags) Open() (*Registry, error) {
	endpoints := split(f.endpoints)
	if len(endpoints) == 0 {
		endpoints = split(strings.Split(os.Getenv(EnvEndpoints), ","))
	}
	if len(endpoints) == 0 {
		return nil, &ui.Error{
			Code: "no_endpoints", Message: "where etcd is was not said", Exit: ui.ExitUsage,
			Hint: "--endpoints 127.0.0.1:2379, or set " + EnvEndpoints,
		}
	}
	cfg := etcd.Config{
		Endpoints: endpoints, Username: or(f.user, EnvUser),
		CAFile: or(f.caFile, EnvCAFile), CertFile: or(f.certFile, EnvCertFile), KeyFile: or(f.keyFile, EnvKeyFile),
	}
	if cfg.Username != "" {
		cfg.Password = os.Getenv(EnvPassword)
		if cfg.Password == "" {
			return nil, &ui.Error{
				Code: "no_password", Message: fmt.Sprintf("there is no password for user %q", cfg.Username), Exit: ui.ExitUsage,
				Hint: "set " + EnvPassword,
			}
		}
	}
	client, err := etcd.Dial(cfg)
	if err != nil {
		return nil, &ui.Error{Code: "bad_access", Message: err.Error(), Hint: "--endpoints 127.0.0.1:2379; files are PEM", Exit: ui.ExitUsage, Err: err}
	}
	operator := etcd.NewOperator(client, or(f.namespace, EnvNamespace))
	return &Registry{
		Operator:  operator,
		Documents: configetcd.NewStore(client, or(f.namespace, EnvNamespace)),
		endpoints: endpoints,
		close:     func() error { return errors.Join(operator.Close(), client.Close()) },
	}, nil
}

// Close ends the connection.
func (r *Registry) Close() error { return r.close() }

// Explain turns an error of the connection into what a person can act on.
// Others, nil among them, stay as they are.
func (r *Registry) Explain(err error) error {
	at := strings.Join(r.endpoints, ", ")
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, etcd.ErrUnreachable), errors.Is(err, configetcd.ErrUnreachable):
		return &ui.Error{
			Code: "etcd_unreachable", Message: err.Error(), Err: err,
			Hint: "look whether etcd runs there: --endpoints, or " + EnvEndpoints + ", says where",
		}
	case errors.Is(err, rpctypes.ErrAuthFailed), errors.Is(err, rpctypes.ErrAuthNotEnabled),
		errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrInvalidAuthToken):
		return &ui.Error{
			Code: "etcd_login", Message: "etcd at " + at + " takes no such login: " + err.Error(), Err: err,
			Hint: "--user NAME with the password in " + EnvPassword,
		}
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return &ui.Error{
			Code: "etcd_permission", Message: "etcd at " + at + ": " + err.Error(), Err: err,
			Hint: "etcdctl user grant-role NAME operator, with the role operator of docs/etcd.md",
		}
	default:
		return err
	}
}

// split leaves out what is empty, such as what follows the last comma.
func split(list []string) []string {
	var out []string
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func or(flag, variable string) string {
	if flag != "" {
		return flag
	}
	return os.Getenv(variable)
}
