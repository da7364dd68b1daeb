package middleware_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/apierror"
	"plinth.internal/middleware"
)

// noBad refuses messages that say "bad", in several ways.
type noBad struct{ checked atomic.Int64 }

func (v *noBad) Validate(m proto.Message) error {
	v.checked.Add(1)
	s, ok := m.(*wrapperspb.StringValue)
	if !ok {
		return errors.New("no string")
	}
	switch s.GetValue() {
	case "bad":
		return errors.New("value: must not be bad")
	case "bad with a status":
		return status.Error(codes.OutOfRange, "too bad")
	case "bad and typed":
		return apierror.Domain("test").New(codes.InvalidArgument, "BAD", "typed", apierror.Violations(apierror.Violation{Field: "value"}))
	}
	return nil
}

// validated is a server that checks its messages, and what its handlers are asked.
func validated(t *testing.T, v middleware.Validator) (*grpc.ClientConn, *atomic.Int64) {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	s := grpc.NewServer(
		grpc.ChainUnaryInterceptor(middleware.UnaryServer(), middleware.ValidateUnary(v)),
		grpc.ChainStreamInterceptor(middleware.StreamServer(), middleware.ValidateStream(v)),
	)
	var handled atomic.Int64
	s.RegisterService(&echoDesc, echo{handle: func(context.Context) error { handled.Add(1); return nil }})
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(lis) })
	cc, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close()
		s.Stop()
		served.Wait()
	})
	return cc, &handled
}

func TestValidateUnary(t *testing.T) {
	v := new(noBad)
	cc, handled := validated(t, v)
	for in, want := range map[string]codes.Code{
		"good": codes.OK, "bad": codes.InvalidArgument, "bad with a status": codes.OutOfRange, "bad and typed": codes.InvalidArgument,
	} {
		before := handled.Load()
		_, err := say(t.Context(), cc, in)
		if status.Code(err) != want || (handled.Load() > before) != (want == codes.OK) {
			t.Errorf("%s: %v, the handler was called %d times", in, err, handled.Load()-before)
		}
		if in == "bad" && !strings.Contains(err.Error(), "value: must not be bad") {
			t.Errorf("the caller does not learn what is wrong: %v", err)
		}
		if e, ok := apierror.From(err); in == "bad and typed" && (!ok || e.Violations()[0].Field != "value") {
			t.Errorf("the violations are lost: %v", err)
		}
	}
}

func TestValidateStreams(t *testing.T) {
	for _, tt := range []struct {
		method string
		send   []string
		want   codes.Code
		got    []string
	}{
		{repeatMethod, []string{"good"}, codes.OK, []string{"good", "good", "good"}},
		{repeatMethod, []string{"bad"}, codes.InvalidArgument, nil},
		{collectMethod, []string{"a", "b"}, codes.OK, []string{"ab"}},
		{collectMethod, []string{"a", "bad", "b"}, codes.InvalidArgument, nil},
		{chatMethod, []string{"a", "b", "bad with a status", "c"}, codes.OutOfRange, []string{"a", "b"}},
	} {
		cc, _ := validated(t, new(noBad))
		s, err := open(t.Context(), cc, tt.method)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range tt.send {
			if s.SendMsg(wrapperspb.String(m)) != nil {
				break // the server has ended it; the outcome tells
			}
		}
		_ = s.CloseSend()
		got, err := drain(s)
		if status.Code(err) != tt.want || !slices.Equal(got, tt.got) {
			t.Errorf("%s %q: %q, %v", tt.method, tt.send, got, err)
		}
	}
}

// stubStream hands out messages that are all the same.
type stubStream struct {
	grpc.ServerStream

	value string
	err   error
}

func (s *stubStream) RecvMsg(m any) error {
	if sv, ok := m.(*wrapperspb.StringValue); ok {
		sv.Value = s.value
	}
	return s.err
}

// TestValidateStreamIsFinal: a handler cannot talk its way out of a message that is
// not valid, and errors of the stream are not touched.
func TestValidateStreamIsFinal(t *testing.T) {
	intercept := middleware.ValidateStream(new(noBad))
	stream := &stubStream{value: "bad"}
	err := intercept(nil, stream, nil, func(_ any, s grpc.ServerStream) error {
		first := s.RecvMsg(new(wrapperspb.StringValue))
		stream.value = "good"
		if second := s.RecvMsg(new(wrapperspb.StringValue)); first == nil || !errors.Is(second, first) {
			t.Errorf("first %v, then %v", first, second)
		}
		return nil
	})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("the outcome is %v", err)
	}
	broken := errors.New("broken")
	v := new(noBad)
	err = middleware.ValidateStream(v)(nil, &stubStream{err: broken}, nil, func(_ any, s grpc.ServerStream) error { return s.RecvMsg(new(wrapperspb.StringValue)) })
	if !errors.Is(err, broken) || v.checked.Load() != 0 {
		t.Errorf("the stream's own error is %v, %d messages were checked", err, v.checked.Load())
	}
	if err := middleware.ValidateStream(v)(nil, &stubStream{}, nil, func(_ any, s grpc.ServerStream) error { return s.RecvMsg("no message") }); err != nil {
		t.Errorf("what is no message: %v", err)
	}
}
