package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
	"plinth.internal/middleware/recovery"
)

type report struct {
	value any
	stack string
	call  *middleware.Call
}

func TestRecovery(t *testing.T) {
	fails := status.Error(codes.NotFound, "no")
	var nilMap map[string]int
	var nothing any
	for _, tc := range []struct {
		name     string
		handler  func() error
		code     codes.Code
		reported bool
		value    any // where it can be compared
	}{
		{"fine", func() error { return nil }, codes.OK, false, nil},
		{"error", func() error { return fails }, codes.NotFound, false, nil},
		{"string", func() error { panic("secret") }, codes.Internal, true, "secret"},
		{"error value", func() error { panic(fails) }, codes.Internal, true, fails},
		{"uncomparable", func() error { panic([]string{"secret"}) }, codes.Internal, true, nil},
		{"runtime error", func() error { nilMap["x"] = 1; return nil }, codes.Internal, true, nil},
		{"nil", func() error { panic(nothing) }, codes.Internal, true, nil},
		{"abort", func() error { panic(http.ErrAbortHandler) }, codes.Internal, true, http.ErrAbortHandler},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []report
			m := recovery.New(func(_ context.Context, call *middleware.Call, value any, stack []byte) {
				got = append(got, report{value, string(stack), call})
			})
			call := &middleware.Call{Kind: middleware.ServerUnary, Service: "s.S", Method: "M", TraceID: "4bf92f35"}
			err := m(func(context.Context, *middleware.Call) error { return tc.handler() })(t.Context(), call)
			if middleware.Code(err) != tc.code {
				t.Errorf("err = %v, want %v", err, tc.code)
			}
			if (len(got) == 1) != tc.reported || len(got) > 1 {
				t.Fatalf("%d reports", len(got))
			}
			if tc.code != codes.Internal {
				return
			}
			if text := err.Error(); strings.Contains(text, "secret") || !strings.Contains(text, "s.S/M") || !strings.Contains(text, "4bf92f35") {
				t.Errorf("the caller is told %q", text)
			}
			if !tc.reported {
				return
			}
			if tc.value != nil && got[0].value != tc.value {
				t.Errorf("reported %v, want %v", got[0].value, tc.value)
			}
			if got[0].value == nil || got[0].call != call || !strings.Contains(got[0].stack, "TestRecovery") {
				t.Errorf("reported %v with the stack\n%s", got[0].value, got[0].stack)
			}
		})
	}
}

// TestElsewhere: a panic that somebody else has caught is told like one's own.
func TestElsewhere(t *testing.T) {
	for _, tc := range []struct{ value, want any }{{"secret", "secret"}, {nil, recovery.ErrGoexit}} {
		var value any
		var stack string
		m := recovery.New(func(_ context.Context, _ *middleware.Call, v any, s []byte) { value, stack = v, string(s) })
		err := m(func(context.Context, *middleware.Call) error {
			return fmt.Errorf("wrapped: %w", &middleware.PanicError{Value: tc.value, Stack: []byte("there")})
		})(t.Context(), &middleware.Call{Method: "M"})
		if middleware.Code(err) != codes.Internal || !strings.Contains(err.Error(), "internal error in M") || value != tc.want || stack != "there" {
			t.Errorf("reported %v at %s, error %v", value, stack, err)
		}
	}
}

// TestAbortIsForHTTP: over gRPC nobody gives http.ErrAbortHandler a meaning.
func TestAbortIsForHTTP(t *testing.T) {
	for kind, reported := range map[middleware.Kind]bool{
		middleware.ServerUnary: true, middleware.ServerStream: true, middleware.ServerHTTP: false,
	} {
		told := false
		m := recovery.New(func(context.Context, *middleware.Call, any, []byte) { told = true })
		err := m(func(context.Context, *middleware.Call) error { panic(http.ErrAbortHandler) })(t.Context(), &middleware.Call{Kind: kind, Method: "M"})
		if middleware.Code(err) != codes.Internal || errors.Is(err, http.ErrAbortHandler) == reported || told != reported {
			t.Errorf("%v: err = %v, reported %v", kind, err, told)
		}
	}
}

type pointerError struct{ text string }

func (e *pointerError) Error() string { return e.text }

type statusError struct{ error }

func (statusError) GRPCStatus() *status.Status { panic("no status") }

// TestBrokenError: an error that cannot be looked at is told like a panic, and nobody
// outside gets to look at it.
func TestBrokenError(t *testing.T) {
	for what, broken := range map[string]error{
		"a nil *recovery_test.pointerError": (*pointerError)(nil),
		"no status":                         fmt.Errorf("wrapped: %w", statusError{errors.New("secret")}),
	} {
		var got []report
		m := recovery.New(func(_ context.Context, call *middleware.Call, value any, stack []byte) {
			got = append(got, report{value, string(stack), call})
		})
		err := m(func(context.Context, *middleware.Call) error { return broken })(t.Context(), &middleware.Call{Method: "M"})
		if middleware.Code(err) != codes.Internal || err.Error() != "rpc error: code = Internal desc = internal error in M" {
			t.Errorf("%s: the caller is told %v", what, err)
		}
		if len(got) != 1 || !strings.Contains(fmt.Sprint(got[0].value), what) || !strings.Contains(got[0].stack, "recovery_test.") {
			t.Errorf("%s: reported %+v", what, got)
		}
	}
}

func TestNilReport(t *testing.T) {
	err := recovery.New(nil)(func(context.Context, *middleware.Call) error { panic("x") })(t.Context(), &middleware.Call{Method: "M"})
	if middleware.Code(err) != codes.Internal || strings.Contains(err.Error(), "trace") {
		t.Errorf("err = %v", err)
	}
}

// TestGoexit: nobody can go on in a goroutine that ends, but it is told.
func TestGoexit(t *testing.T) {
	var value any
	m := recovery.New(func(_ context.Context, _ *middleware.Call, v any, _ []byte) { value = v })
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m(func(context.Context, *middleware.Call) error { runtime.Goexit(); return nil })(t.Context(), &middleware.Call{})
		t.Error("it came back")
	}()
	<-done
	if err, ok := value.(error); !ok || !errors.Is(err, recovery.ErrGoexit) {
		t.Errorf("reported %v", value)
	}
}
