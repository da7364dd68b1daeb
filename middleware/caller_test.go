package middleware_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"plinth.internal/middleware"
)

func TestCaller(t *testing.T) {
	ctx := t.Context()
	if got := middleware.Caller(ctx); got != "" {
		t.Errorf("nobody is %q", got)
	}
	if middleware.WithCaller(ctx, "") != ctx {
		t.Error("an empty name has made another context")
	}
	if got := middleware.Caller(middleware.WithCaller(ctx, "mtls:front")); got != "mtls:front" {
		t.Errorf("the caller is %q", got)
	}
}

// TestPeerCertificate: only a certificate that was checked counts, over both
// transports.
func TestPeerCertificate(t *testing.T) {
	cert := &x509.Certificate{}
	for _, tc := range []struct {
		name  string
		state *tls.ConnectionState
		want  *x509.Certificate
	}{
		{"plain", nil, nil},
		{"TLS", &tls.ConnectionState{}, nil},
		{"not checked", &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}, nil},
		{"checked", &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert, {}}, {}}}, cert},
	} {
		var got []*x509.Certificate
		note := func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, call *middleware.Call) error {
				got = append(got, call.PeerCertificate())
				return next(ctx, call)
			}
		}
		ctx := t.Context()
		if tc.state != nil {
			ctx = peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{State: *tc.state}})
		}
		_, err := middleware.UnaryServer(note)(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/s/m"}, func(context.Context, any) (any, error) { return nil, nil })
		if err != nil {
			t.Error(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.TLS = tc.state
		middleware.HTTPServer("s", "/", http.NotFoundHandler(), note).ServeHTTP(httptest.NewRecorder(), r)
		if len(got) != 2 || got[0] != tc.want || got[1] != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
