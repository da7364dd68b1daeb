package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/goleak"

	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/etcd/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpen(t *testing.T) {
	tests := []struct {
		name      string
		env       map[string]string
		args      []string
		endpoints []string
		code      string
		hint      string
	}{
		{name: "nothing said", code: "no_endpoints", hint: EnvEndpoints},
		{name: "nothing but commas", args: []string{"--endpoints", " ,"}, code: "no_endpoints"},
		{name: "flag", args: []string{"--endpoints", "a:1, b:2"}, endpoints: []string{"a:1", "b:2"}},
		{name: "variable", env: map[string]string{EnvEndpoints: "a:1,b:2,"}, endpoints: []string{"a:1", "b:2"}},
		{name: "flag before variable", env: map[string]string{EnvEndpoints: "a:1"}, args: []string{"--endpoints", "b:2"}, endpoints: []string{"b:2"}},
		{name: "user without password", args: []string{"--endpoints", "a:1", "--user", "u"}, code: "no_password", hint: EnvPassword},
		{name: "user from a variable", env: map[string]string{EnvUser: "u"}, args: []string{"--endpoints", "a:1"}, code: "no_password"},
		{name: "user with password", env: map[string]string{EnvPassword: "p"}, args: []string{"--endpoints", "a:1", "--user", "u"}, endpoints: []string{"a:1"}},
		{name: "certificate without a key", args: []string{"--endpoints", "a:1", "--cert-file", "c.pem"}, code: "bad_access"},
		{name: "roots that are not there", env: map[string]string{EnvCAFile: "/none.pem"}, args: []string{"--endpoints", "a:1"}, code: "bad_access"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clearEnv(t)
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			var f Flags
			cmd := &cobra.Command{}
			f.Add(cmd)
			if err := cmd.ParseFlags(tt.args); err != nil {
				t.Fatal(err)
			}
			r, err := f.Open()
			if tt.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if !slices.Equal(r.endpoints, tt.endpoints) {
					t.Errorf("endpoints %q, want %q", r.endpoints, tt.endpoints)
				}
				return
			}
			if r != nil {
				defer r.Close()
			}
			e, ok := errors.AsType[*ui.Error](err)
			if !ok || e.Code != tt.code || e.Exit != ui.ExitUsage || !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("error %#v, want code %s and a hint with %q", err, tt.code, tt.hint)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	r := &Registry{endpoints: []string{"a:1"}}
	plain := errors.New("plain")
	tests := []struct {
		err  error
		code string
	}{
		{nil, ""},
		{plain, ""},
		{context.Canceled, ""},
		{fmt.Errorf("list: %w", etcd.ErrUnreachable), "etcd_unreachable"},
		{fmt.Errorf("list: %w", rpctypes.ErrAuthFailed), "etcd_login"},
		{fmt.Errorf("list: %w", rpctypes.ErrUserEmpty), "etcd_login"},
		{fmt.Errorf("list: %w", rpctypes.ErrPermissionDenied), "etcd_permission"},
	}
	for _, tt := range tests {
		got := r.Explain(tt.err)
		if tt.code == "" {
			if !errors.Is(got, tt.err) {
				t.Errorf("Explain(%v) = %v", tt.err, got)
			}
			continue
		}
		if e, ok := errors.AsType[*ui.Error](got); !ok || e.Code != tt.code || e.Hint == "" || !errors.Is(got, tt.err) {
			t.Errorf("Explain(%v) = %#v, want code %s", tt.err, got, tt.code)
		}
	}
}

// TestLogin asks an etcd with users for a list.
func TestLogin(t *testing.T) {
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	root, err := etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { _, err := root.UserAdd(ctx, "ann", "secret"); return err },
		func() error { _, err := root.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := root.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := root.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, user, password, code string }{
		{"no user", "", "", "etcd_login"},
		{"wrong password", "root", "guess", "etcd_login"},
		{"unknown user", "bob", "secret", "etcd_login"},
		{"no permission", "ann", "secret", "etcd_permission"},
		{"all well", "root", "secret", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clearEnv(t)
			t.Setenv(EnvUser, tt.user)
			t.Setenv(EnvPassword, tt.password)
			f := Flags{endpoints: []string{server.Endpoint()}}
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			_, err = r.Services(t.Context())
			if tt.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := errors.AsType[*ui.Error](r.Explain(err))
			if !ok || e.Code != tt.code || !strings.Contains(e.Message, server.Endpoint()) || strings.Contains(e.Error()+e.Hint, tt.password) && tt.password != "" {
				t.Errorf("error %v: %#v, want code %s", err, e, tt.code)
			}
		})
	}
}

func clearEnv(t *testing.T) {
	t.Helper()
	for _, name := range []string{EnvEndpoints, EnvNamespace, EnvUser, EnvPassword, EnvCAFile, EnvCertFile, EnvKeyFile} {
		t.Setenv(name, "")
	}
}
