package framework_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/apierror"
	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/middleware"
	"plinth.internal/server/gateway/testdata/restv1"
)

// strict refuses the word "bad", and types of messages that it is told to.
type strict struct {
	mu     sync.Mutex
	warmed []protoreflect.FullName
	broken protoreflect.FullName
}

func (v *strict) Validate(m proto.Message) error {
	if s, ok := m.(*wrapperspb.StringValue); ok && s.GetValue() == "bad" {
		return errors.New("value: must not be bad")
	}
	return nil
}

func (v *strict) Warm(md protoreflect.MessageDescriptor) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.warmed = append(v.warmed, md.FullName())
	if md.FullName() == v.broken {
		return errors.New("its rules do not compile")
	}
	return nil
}

// linkEcho makes test.v1.Echo known to the process, as generated code does.
var linkEcho = sync.OnceValue(func() error {
	str := new(".google.protobuf.StringValue")
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("frameworktest/echo.proto"), Package: new("test.v1"), Syntax: new("proto3"), Dependency: []string{"google/protobuf/wrappers.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: new("Echo"), Method: []*descriptorpb.MethodDescriptorProto{{Name: new("Say"), InputType: str, OutputType: str}},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return protoregistry.GlobalFiles.RegisterFile(fd)
})

// TestValidator: requests are checked before their handlers, unary and stream.
func TestValidator(t *testing.T) {
	if err := linkEcho(); err != nil {
		t.Fatal(err)
	}
	v := &strict{}
	handled := 0
	app := frameworktest.Start(t, "echo", setupEcho(echo{say: func(_ context.Context, in string) (string, error) {
		handled++
		return in, nil
	}}), framework.WithValidator(v))
	if _, err := say(t.Context(), app.Conn(), "good"); err != nil || handled != 1 {
		t.Errorf("a good one: %v", err)
	}
	_, err := say(t.Context(), app.Conn(), "bad")
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "value: must not be bad") || handled != 1 {
		t.Errorf("a bad one: %v, handled %d", err, handled)
	}
	s, err := app.Conn().NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/test.v1.Echo/Repeat")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SendMsg(wrapperspb.String("bad")), s.CloseSend()); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(new(wrapperspb.StringValue)); status.Code(err) != codes.InvalidArgument || handled != 1 {
		t.Errorf("a bad stream: %v, handled %d", err, handled)
	}
	found := false
	for _, name := range v.warmed {
		found = found || name == "google.protobuf.StringValue"
	}
	if !found {
		t.Errorf("compiled ahead are %v", v.warmed)
	}
}

// TestErrorsOverREST: violations, and the typed errors of handlers, are the same
// over gRPC and REST.
func TestErrorsOverREST(t *testing.T) {
	const errs = apierror.Domain("notes.example.com")
	setup := func(_ context.Context, s *framework.Service) error {
		s.Gateway(restv1.RestRoutes)
		restv1.RegisterNotesServer(s, failingNotes{err: errs.New(codes.AlreadyExists, "TAKEN", "it is taken", apierror.Metadata("by", "anna"))})
		return nil
	}
	handled := errs.New(codes.InvalidArgument, "BAD_ID", "the ID is not good", apierror.Violations(apierror.Violation{Field: "id", Description: "not good"}))
	app := frameworktest.Start(t, "notes", setup, framework.WithValidator(refuser{"bad", handled}))
	for id, want := range map[string]codes.Code{"bad": codes.InvalidArgument, "good": codes.AlreadyExists} {
		_, err := restv1.NewNotesClient(app.Conn()).Get(t.Context(), &restv1.GetRequest{Id: id})
		overGRPC, ok := apierror.From(err)
		if !ok || overGRPC.Code() != want {
			t.Fatalf("%s over gRPC: %v", id, err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://notes/v1/notes/"+id, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := app.HTTP().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		overREST, ok := apierror.FromResponse(resp)
		_ = resp.Body.Close()
		if !ok || resp.StatusCode != middleware.HTTPStatus(want) || !proto.Equal(overREST.GRPCStatus().Proto(), overGRPC.GRPCStatus().Proto()) {
			t.Errorf("%s over REST: %s %v, over gRPC: %v", id, resp.Status, overREST, overGRPC)
		}
	}
}

type failingNotes struct {
	restv1.UnimplementedNotesServer

	err error
}

func (n failingNotes) Get(context.Context, *restv1.GetRequest) (*restv1.Note, error) {
	return nil, fmt.Errorf("get note: %w", n.err)
}

// refuser refuses one ID.
type refuser struct {
	id  string
	err error
}

func (r refuser) Validate(m proto.Message) error {
	if get, ok := m.(*restv1.GetRequest); ok && get.GetId() == r.id {
		return r.err
	}
	return nil
}

// TestValidatorRules: rules that do not compile end the start, with the names of
// what they stand at.
func TestValidatorRules(t *testing.T) {
	if err := linkEcho(); err != nil {
		t.Fatal(err)
	}
	app, err := framework.New("echo", setupEcho(plainEcho), framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(io.Discard),
		framework.WithValidator(&strict{broken: "google.protobuf.StringValue"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "validate requests of test.v1.Echo/Say: its rules do not compile") {
		t.Errorf("Run = %v", err)
	}
}
