package framework_test

import (
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

// TestUnmatchedCall: whoever calls what is not there gets a trace ID to ask about, and
// is seen in the log and in the metrics, under one name.
func TestUnmatchedCall(t *testing.T) {
	var logs lockedBuffer
	app := frameworktest.Start(t, "echo", setupEcho(plainEcho), framework.WithLogOutput(&logs), framework.WithSetting("telemetry.log.format", "json"))
	var trailer metadata.MD
	err := app.Conn().Invoke(metadata.AppendToOutgoingContext(t.Context(), "x-trace-id", "4bf92f3577b34da6a3ce929d0e0e4736"),
		"/test.v1.Echo/Whisper", wrapperspb.String("x"), new(wrapperspb.StringValue), grpc.Trailer(&trailer))
	if status.Code(err) != codes.Unimplemented || status.Convert(err).Message() != "unknown method Whisper for service test.v1.Echo" {
		t.Errorf("err = %v", err)
	}
	if id := trailer.Get("x-trace-id"); len(id) != 1 || len(id[0]) != 32 || !strings.Contains(logs.String(), `"trace_id":"`+id[0]+`"`) {
		t.Errorf("x-trace-id is %q, logged is\n%s", id, logs.String())
	}
	resp, err := app.Admin().Get("http://admin/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := `plinth_server_call_duration_seconds_count{code="UNIMPLEMENTED",method="unmatched",service="echo"} 1`; !strings.Contains(string(page), want) {
		t.Errorf("the metrics have no %s", want)
	}
	if strings.Contains(string(page), "Whisper") || !strings.Contains(logs.String(), "unknown method Whisper") {
		t.Errorf("the name is in the metrics, or not in the log:\n%s", logs.String())
	}
}
