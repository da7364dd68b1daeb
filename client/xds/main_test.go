package xds_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

const (
	bootstrapVariable = "GRPC_XDS_BOOTSTRAP"
	meshNode          = "the-test"
)

// TestMain runs the tests in a process whose environment names the bootstrap
// file: grpc reads the variable while a program starts, so that a test cannot
// set it. The control plane's listener goes to that process as its file 3.
func TestMain(m *testing.M) {
	if os.Getenv(bootstrapVariable) != "" {
		goleak.VerifyTestMain(m)
		return
	}
	err := inMesh()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok { // else that process has said what is wrong
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil {
		os.Exit(1) //nolint:forbidigo // this is the program's main
	}
}

func inMesh() error {
	dir, err := os.MkdirTemp("", "mesh")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	lis, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	tcp, ok := lis.(*net.TCPListener)
	if !ok {
		return fmt.Errorf("listen gives a %T", lis)
	}
	file, err := tcp.File()
	if err != nil {
		return err
	}
	if err := writeCertificates(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, "bootstrap.json")
	bootstrap := fmt.Sprintf(`{
		"xds_servers": [{"server_uri": %q, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
		"node": {"id": %q},
		"certificate_providers": {"mesh": {"plugin_name": "file_watcher", "config": {
			"certificate_file": %q, "private_key_file": %q, "ca_certificate_file": %q, "refresh_interval": "1s"
		}}}
	}`, lis.Addr().String(), meshNode, certFile(dir), keyFile(dir), caFile(dir))
	if err := os.WriteFile(path, []byte(bootstrap), 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	tests := exec.CommandContext(context.Background(), self, os.Args[1:]...)
	tests.Env = append(os.Environ(), bootstrapVariable+"="+path)
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	tests.ExtraFiles = []*os.File{file}
	return tests.Run()
}
