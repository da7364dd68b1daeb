package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
)

func TestNoRetry(t *testing.T) {
	if middleware.NoRetry(nil) != nil {
		t.Error("nil was marked")
	}
	cause := status.Error(codes.Unavailable, "gone")
	marked := middleware.NoRetry(cause)
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"plain", cause, false},
		{"marked", marked, true},
		{"marked twice", middleware.NoRetry(marked), true},
		{"wrapped", fmt.Errorf("charge: %w", marked), true},
		{"joined", errors.Join(errors.New("x"), marked), true},
		{"made anew", status.Error(codes.Unavailable, marked.Error()), false},
	}
	for _, tt := range tests {
		if got := middleware.IsNoRetry(tt.err); got != tt.want {
			t.Errorf("%s: marked is %t, want %t", tt.name, got, tt.want)
		}
		if got := middleware.Code(tt.err); got != codes.Unavailable {
			t.Errorf("%s: code is %s", tt.name, got)
		}
	}
	if marked.Error() != cause.Error() || status.Convert(marked).Message() != "gone" || !errors.Is(marked, cause) {
		t.Errorf("the mark has changed the error to %v", marked)
	}
	if err := middleware.NoRetry(context.DeadlineExceeded); middleware.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a marked context error has code %s", middleware.Code(err))
	}
}

// trailers is the stream of a call that keeps what is sent after it.
type trailers struct {
	grpc.ServerTransportStream

	md metadata.MD
}

func (s *trailers) Method() string              { return "/x.Y/Z" }
func (s *trailers) SetHeader(metadata.MD) error { return nil }
func (s *trailers) SetTrailer(md metadata.MD) error {
	s.md = metadata.Join(s.md, md)
	return nil
}

func TestServerSendsNoRetry(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{status.Error(codes.Unavailable, "gone"), ""},
		{fmt.Errorf("charge: %w", middleware.NoRetry(status.Error(codes.Unavailable, "gone"))), "1"},
	} {
		s := &trailers{}
		ctx := grpc.NewContextWithServerTransportStream(t.Context(), s)
		_, err := middleware.UnaryServer()(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/x.Y/Z"}, func(context.Context, any) (any, error) {
			return nil, tt.err
		})
		got := ""
		if v := s.md.Get(middleware.HeaderNoRetry); len(v) > 0 {
			got = v[0]
		}
		if got != tt.want || status.Code(err) != middleware.Code(tt.err) {
			t.Errorf("%v: the mark over gRPC is %q, the error %v", tt.err, got, err)
		}
		if tt.err == nil {
			continue
		}
		rec := httptest.NewRecorder()
		middleware.WriteHTTPError(rec, tt.err)
		if got := rec.Header().Get(middleware.HeaderNoRetry); got != tt.want {
			t.Errorf("%v: the mark over HTTP is %q", tt.err, got)
		}
	}
}
