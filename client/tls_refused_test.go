package client_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/internal/tlsfiles/tlstest"
	"plinth.internal/server"
)

// TestRefusedIsUnsent: with TLS 1.3 a client's certificate is refused after the
// request was written. The instance has not seen it, so the breaker has nothing to
// judge, and a request that must not happen twice is made elsewhere.
func TestRefusedIsUnsent(t *testing.T) {
	a, b := tlstest.NewAuthority(t, "first"), tlstest.NewAuthority(t, "second")
	ours := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "caller"))
	theirs := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "echo"))
	strict := tlstest.NewDir(t, t.TempDir(), b.PEM(), a.Issue(t, "echo"))
	files := &client.TLS{Mode: client.TLSMutual, CAFile: ours.CA, CertFile: ours.Cert, KeyFile: ours.Key}
	settings := client.WithSettings(func(string, string) client.Settings {
		s := client.DefaultSettings()
		s.TLS, s.Balancer = files, balancer.NameRoundRobin
		return s
	})
	refuse := &server.TLS{CertFile: strict.Cert, KeyFile: strict.Key, ClientCAFile: strict.CA}
	take := &server.TLS{CertFile: theirs.Cert, KeyFile: theirs.Key, ClientCAFile: theirs.CA}

	t.Run("by all", func(t *testing.T) {
		w := newWorld(t, settings)
		w.guard(t, "a", refuse)
		for i := range 60 {
			_, _, err := text(t, w.client.HTTP("echo"), http.MethodPost, strings.NewReader("x"))
			if err == nil || !strings.Contains(err.Error(), "refuses the certificate in clients.echo.tls.cert_file") {
				t.Fatalf("request %d: %v", i, err)
			}
		}
		if held := recorded[client.CallRejected](w.events); len(held) > 0 {
			t.Errorf("the breaker held %d requests back", len(held))
		}
	})
	t.Run("by one of three", func(t *testing.T) {
		w := newWorld(t, settings)
		w.guard(t, "a", refuse)
		g1, g2 := w.guard(t, "b", take), w.guard(t, "c", take)
		const requests = 60
		for i := range requests {
			if code, _, err := text(t, w.client.HTTP("echo"), http.MethodPost, strings.NewReader("x")); err != nil || code != http.StatusOK {
				t.Fatalf("request %d: %d, %v", i, code, err)
			}
			pause(t.Context(), 5*time.Millisecond) // so that the refusing one is tried again and again
		}
		if served := g1.served.Load() + g2.served.Load(); served != requests {
			t.Errorf("%d requests were served, want %d", served, requests)
		}
		if len(recorded[client.CallRetried](w.events)) == 0 {
			t.Error("the instance that refuses was never asked")
		}
	})
}
