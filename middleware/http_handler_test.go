package middleware_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
)

// TestHTTPServerFunc: the chain sees the handler's own error, and it is answered
// once, by whoever is to.
func TestHTTPServerFunc(t *testing.T) {
	own := status.Error(codes.AlreadyExists, "there is one")
	mine := func(w http.ResponseWriter, _ *http.Request, err error) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "mine: "+err.Error())
	}
	for _, tc := range []struct {
		name   string
		serve  middleware.HTTPHandler
		fail   middleware.HTTPFailure
		status int
		body   string
		code   codes.Code
	}{
		{"well", func(w http.ResponseWriter, _ *http.Request) error { _, err := io.WriteString(w, "fine"); return err }, nil, 200, "fine", codes.OK},
		{"nothing written", func(http.ResponseWriter, *http.Request) error { return nil }, nil, 200, "", codes.OK},
		{"an error", func(http.ResponseWriter, *http.Request) error { return own }, nil, 409, "there is one", codes.AlreadyExists},
		{"an error, answered otherwise", func(http.ResponseWriter, *http.Request) error { return own }, mine, 418, "mine: ", codes.AlreadyExists},
		{"an error that was told", func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "half")
			return own
		}, mine, 200, "half", codes.AlreadyExists},
		{"a status", func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(http.StatusNotFound); return nil }, mine, http.StatusNotFound, "", codes.NotFound},
	} {
		var seen error
		watch := func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, call *middleware.Call) error {
				if call.FullMethod() != "a.B/C" || call.Kind != middleware.ServerHTTP {
					t.Errorf("%s: %v %s", tc.name, call.Kind, call.FullMethod())
				}
				seen = next(ctx, call)
				return seen
			}
		}
		w := httptest.NewRecorder()
		middleware.HTTPServerFunc("test", "a.B/C", tc.serve, tc.fail, watch).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.body) || middleware.Code(seen) != tc.code {
			t.Errorf("%s: %d %s, the chain saw %v", tc.name, w.Code, w.Body, seen)
		}
	}
}

func TestPanicError(t *testing.T) {
	var err error = &middleware.PanicError{Value: errors.New("secret"), Stack: []byte("here")}
	if middleware.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v has code %v", err, middleware.Code(err))
	}
}
