package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
)

// falseOKError is an error that claims to be none.
type falseOKError struct{}

func (falseOKError) Error() string              { return "claims to be OK" }
func (falseOKError) GRPCStatus() *status.Status { return status.New(codes.OK, "") }

func TestCode(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want codes.Code
	}{
		{"nil", nil, codes.OK},
		{"plain", errors.New("x"), codes.Unknown},
		{"status", status.Error(codes.NotFound, "x"), codes.NotFound},
		{"wrapped status", fmt.Errorf("get: %w", status.Error(codes.NotFound, "x")), codes.NotFound},
		{"deadline", context.DeadlineExceeded, codes.DeadlineExceeded},
		{"cancelled", fmt.Errorf("get: %w", context.Canceled), codes.Canceled},
		{"status wins over context", errors.Join(status.Error(codes.Aborted, "x"), context.Canceled), codes.Aborted},
		{"http", &middleware.HTTPError{Status: 404}, codes.NotFound},
		{"wrapped http", fmt.Errorf("get: %w", &middleware.HTTPError{Status: 503}), codes.Unavailable},
		{"false OK", falseOKError{}, codes.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := middleware.Code(tc.err); got != tc.want {
				t.Errorf("Code = %v, want %v", got, tc.want)
			}
			if s := middleware.Status(tc.err); tc.err != nil && s.Err() == nil {
				t.Error("Status loses the error")
			}
		})
	}
}

// TestCodeTable holds both directions of the table together: what HTTP was told
// of a code leads back to it, or where codes share a status to the one that is
// documented for it.
func TestCodeTable(t *testing.T) {
	shared := map[codes.Code]codes.Code{
		codes.Unknown: codes.Internal, codes.DataLoss: codes.Internal,
		codes.FailedPrecondition: codes.InvalidArgument, codes.OutOfRange: codes.InvalidArgument,
		codes.AlreadyExists: codes.Aborted,
	}
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		want, ok := shared[c]
		if !ok {
			want = c
		}
		st := middleware.HTTPStatus(c)
		if got := middleware.CodeOfHTTP(st); got != want {
			t.Errorf("%v -> HTTP %d -> %v, want %v", c, st, got, want)
		}
		if (c == codes.OK) != (st < 400) {
			t.Errorf("%v is HTTP %d", c, st)
		}
		// The name is the one of the gRPC specification, which codes.Code
		// reads in JSON.
		var back codes.Code
		if err := back.UnmarshalJSON([]byte(`"` + middleware.CodeName(c) + `"`)); err != nil || back != c {
			t.Errorf("CodeName(%d) = %q, which is %v (%v)", c, middleware.CodeName(c), back, err)
		}
	}
	if got := middleware.CodeName(99); got != "OTHER" {
		t.Errorf("CodeName(99) = %q", got)
	}
	if got := middleware.HTTPStatus(99); got != 500 {
		t.Errorf("HTTPStatus(99) = %d", got)
	}
}

func TestCodeOfHTTP(t *testing.T) {
	for st, want := range map[int]codes.Code{
		101: codes.OK, 200: codes.OK, 204: codes.OK, 304: codes.OK,
		400: codes.InvalidArgument, 401: codes.Unauthenticated, 403: codes.PermissionDenied,
		404: codes.NotFound, 405: codes.FailedPrecondition, 408: codes.DeadlineExceeded, 409: codes.Aborted,
		410: codes.NotFound, 418: codes.FailedPrecondition, 429: codes.ResourceExhausted, 499: codes.Canceled,
		500: codes.Internal, 501: codes.Unimplemented, 502: codes.Unavailable, 503: codes.Unavailable,
		504: codes.DeadlineExceeded, 599: codes.Internal,
	} {
		if got := middleware.CodeOfHTTP(st); got != want {
			t.Errorf("CodeOfHTTP(%d) = %v, want %v", st, got, want)
		}
	}
	// A 4xx is never the server's fault, except where it ran out of time.
	for st := 400; st < 500; st++ {
		if st != http.StatusRequestTimeout && middleware.ServerFault(middleware.CodeOfHTTP(st)) {
			t.Errorf("HTTP %d counts as the server's fault", st)
		}
	}
}

func TestHTTPStatusOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 200},
		{&middleware.HTTPError{Status: 418}, 418},
		{fmt.Errorf("x: %w", &middleware.HTTPError{Status: 404}), 404},
		{status.Error(codes.Unauthenticated, "x"), 401},
		{context.Canceled, 499},
		{errors.New("x"), 500},
	} {
		if got := middleware.HTTPStatusOf(tc.err); got != tc.want {
			t.Errorf("HTTPStatusOf(%v) = %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestHTTPErrorText(t *testing.T) {
	for _, tc := range []struct {
		err  middleware.HTTPError
		want string
	}{
		{middleware.HTTPError{Status: 404}, "HTTP status 404 Not Found"},
		{middleware.HTTPError{Status: 499}, "HTTP status 499"},
		{middleware.HTTPError{Status: 404, Message: "no such item"}, "HTTP status 404: no such item"},
	} {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("Error() = %q, want %q", got, tc.want)
		}
	}
}

func TestWriteHTTPError(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		body   string
	}{
		{status.Error(codes.NotFound, `no "x"`), 404, `{"code":5,"status":"NOT_FOUND","message":"no \"x\""}`},
		{&middleware.HTTPError{Status: 418}, 418, `{"code":9,"status":"FAILED_PRECONDITION","message":"HTTP status 418 I'm a teapot"}`},
		{errors.New("x"), 500, `{"code":2,"status":"UNKNOWN","message":"x"}`},
	} {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Length", "3")
		middleware.WriteHTTPError(w, tc.err)
		if w.Code != tc.status || strings.TrimSpace(w.Body.String()) != tc.body {
			t.Errorf("%v: %d %s, want %d %s", tc.err, w.Code, w.Body, tc.status, tc.body)
		}
		if h := w.Result().Header; h.Get("Content-Type") != "application/json" || h.Get("Content-Length") != "" {
			t.Errorf("%v: headers %v", tc.err, h)
		}
	}
}
