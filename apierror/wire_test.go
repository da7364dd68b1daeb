package apierror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"plinth.internal/apierror"
	"plinth.internal/middleware"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// overGRPC lets a server fail with err and returns what its caller gets, with the
// headers bounded as those of the strictest peers.
func overGRPC(t *testing.T, failure error) error {
	t.Helper()
	lis := bufconn.Listen(64 << 10)
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return failure }), grpc.StreamInterceptor(middleware.StreamServer()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	defer func() {
		s.Stop()
		<-served
	}()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithMaxHeaderListSize(8<<10),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.Invoke(t.Context(), "/shop.v1.Shop/Get", &emptypb.Empty{}, &emptypb.Empty{})
}

// overHTTP does the same, and returns what a middleware of the client sees and
// what the caller gets.
func overHTTP(t *testing.T, failure error) (resp *http.Response, seen error) {
	t.Helper()
	fail := func(middleware.Handler) middleware.Handler {
		return func(context.Context, *middleware.Call) error { return failure }
	}
	s := httptest.NewServer(middleware.HTTPServer("shop", "GET /", http.NotFoundHandler(), fail))
	defer s.Close()
	look := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			seen = next(ctx, call)
			return seen
		}
	}
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err = middleware.RoundTripper("shop", base, look).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp, seen
}

// TestSameOverGRPCAndHTTP sends errors of all codes over both, and compares what
// arrives with what was made.
func TestSameOverGRPCAndHTTP(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.7: secret")
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		t.Run(code.String(), func(t *testing.T) {
			made := shop.New(code, "ORDER_LOST", "order 17 is lost: ü", apierror.Metadata("order", "17"), apierror.Retryable(1500*time.Millisecond),
				apierror.Violations(apierror.Violation{Field: "items[0].id", Reason: "GONE", Description: "it is gone"}),
				apierror.Detail(&errdetails.RequestInfo{RequestId: "r-1"}), apierror.Cause(secret))
			failure := fmt.Errorf("get order from 10.0.0.7: %w", made)

			grpcErr := overGRPC(t, failure)
			resp, seen := overHTTP(t, failure)
			defer func() { _ = resp.Body.Close() }()
			fromHTTP, ok := apierror.FromResponse(resp)
			if !ok {
				t.Fatal("the response holds no error")
			}
			for name, err := range map[string]error{"gRPC": grpcErr, "HTTP middleware": seen, "HTTP caller": fromHTTP} {
				got, ok := apierror.From(err)
				if !ok {
					t.Errorf("%s: %v is not typed", name, err)
					continue
				}
				if !proto.Equal(got.GRPCStatus().Proto(), made.GRPCStatus().Proto()) {
					t.Errorf("%s: got %v\nwant %v", name, got.GRPCStatus().Proto(), made.GRPCStatus().Proto())
				}
				if middleware.Code(err) != code || strings.Contains(err.Error(), "10.0.0.7") {
					t.Errorf("%s: %v %v", name, middleware.Code(err), err)
				}
			}
			if want := middleware.HTTPStatus(code); resp.StatusCode != want || resp.Header.Get("Retry-After") != "2" {
				t.Errorf("status %d, want %d; Retry-After %q", resp.StatusCode, want, resp.Header.Get("Retry-After"))
			}
			body, err := io.ReadAll(resp.Body)
			var doc struct {
				Code    int              `json:"code"`
				Status  string           `json:"status"`
				Details []map[string]any `json:"details"`
			}
			if err != nil || json.Unmarshal(body, &doc) != nil || doc.Code != int(code) || doc.Status != middleware.CodeName(code) ||
				len(doc.Details) != 4 || doc.Details[0]["@type"] != "type.googleapis.com/google.rpc.ErrorInfo" || doc.Details[0]["domain"] != string(shop) {
				t.Errorf("body %s, %v", body, err)
			}
		})
	}
}

// TestLargestArrives: what is cut to the bounds gets through to peers that take
// 8 KiB of headers.
func TestLargestArrives(t *testing.T) {
	opts := []apierror.Option{}
	for i := range 100 {
		opts = append(opts, apierror.Metadata(fmt.Sprint("k", i), strings.Repeat("ü", 500)),
			apierror.Violations(apierror.Violation{Field: strings.Repeat("f", 500), Description: strings.Repeat("d", 500)}))
	}
	made := shop.New(codes.Internal, strings.Repeat("R", 500), strings.Repeat("ü", 5000), opts...)
	got, ok := apierror.From(overGRPC(t, made))
	if !ok || got.Reason() != made.Reason() || got.Message() != made.Message() || len(got.Metadata()) == 0 {
		t.Errorf("got %v", got)
	}
}

// TestNoRetryIsSent: an error that is not to be retried carries the mark.
func TestNoRetryIsSent(t *testing.T) {
	below := middleware.NoRetry(io.ErrUnexpectedEOF)
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"not retryable", shop.New(codes.Unavailable, "X", "", apierror.NotRetryable()), true},
		{"not retryable, wrapped", fmt.Errorf("get: %w", shop.New(codes.Unavailable, "X", "", apierror.NotRetryable())), true},
		{"says nothing", shop.New(codes.Unavailable, "X", ""), false},
		{"retryable", shop.New(codes.Unavailable, "X", "", apierror.Retryable(0)), false},
		{"the cause was retried below", shop.New(codes.Unavailable, "X", "", apierror.Cause(below)), true},
		{"retryable all the same", shop.New(codes.Unavailable, "X", "", apierror.Cause(below), apierror.Retryable(0)), false},
		{"marked afterwards", middleware.NoRetry(shop.New(codes.Unavailable, "X", "", apierror.Retryable(0))), true},
	} {
		if got := middleware.IsNoRetry(tt.err); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
		resp, _ := overHTTP(t, tt.err)
		_ = resp.Body.Close()
		if got := resp.Header.Get(middleware.HeaderNoRetry) != ""; got != tt.want {
			t.Errorf("%s, over HTTP: %v", tt.name, got)
		}
	}
}

// TestCodeAgainstStatus: a code in a body is believed only where it agrees with
// the status, because any server can write one.
func TestCodeAgainstStatus(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"code":5,"message":"not here"}`)
	}))
	defer s.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	var seen error
	rt := middleware.RoundTripper("shop", base, func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error { seen = next(ctx, call); return seen }
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if middleware.Code(seen) != codes.Unavailable {
		t.Errorf("a 503 that says NOT_FOUND is %v", middleware.Code(seen))
	}
}
