package framework_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

func TestServerOptions(t *testing.T) {
	app := frameworktest.Start(t, "echo", setupEcho(plainEcho), framework.WithServerOptions(grpc.MaxRecvMsgSize(100)))
	if _, err := say(t.Context(), app.Conn(), "hello"); err != nil {
		t.Errorf("Say: %v", err)
	}
	if _, err := say(t.Context(), app.Conn(), strings.Repeat("a", 101)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("Say with a long request: %v, want RESOURCE_EXHAUSTED", err)
	}
}
