package framework

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"testing"
)

// TestRoutesWithoutListener: a route needs a key of the configuration, and the exit
// code says that it is this that is at fault.
func TestRoutesWithoutListener(t *testing.T) {
	var stderr bytes.Buffer
	code := run("front", func(_ context.Context, s *Service) error {
		s.Handle("GET /", http.NotFoundHandler())
		return nil
	}, []string{"--server.grpc.addr=127.0.0.1:0", "--server.admin.addr="}, t.Output(), &stderr,
		func() <-chan os.Signal { return nil }, []Option{WithConfigFile(""), WithEnviron(nil), WithLogOutput(t.Output())})
	if want := "front: handle HTTP: there are routes but no listener; set server.http.addr, for instance to :8080\n"; code != exitUsage || stderr.String() != want {
		t.Errorf("exit code %d, %q, want %d and %q", code, stderr.String(), exitUsage, want)
	}
}
