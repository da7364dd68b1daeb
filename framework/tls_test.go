package framework_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/internal/tlsfiles/tlstest"
)

// TestProtection: who takes calls from other machines without TLS must have said
// so where they find him, and is told of elsewhere.
func TestProtection(t *testing.T) {
	dns := []framework.Option{
		framework.WithSetting("registry.kind", "dns"), framework.WithSetting("registry.dns.name", "{service}.test:9000"),
		framework.WithSetting("registry.dns.server", "127.0.0.1:1"),
	}
	everywhere, here := framework.WithSetting("server.grpc.addr", ":0"), framework.WithSetting("server.grpc.addr", "127.0.0.1:0")
	insecure := framework.WithSetting("server.tls.mode", "insecure")
	required := framework.WithSetting("server.tls.required", "true")
	with := func(base []framework.Option, more ...framework.Option) []framework.Option {
		return append(slices.Clip(base), more...)
	}
	for _, tc := range []struct {
		name string
		opts []framework.Option
		told bool
		err  string
	}{
		{"no configuration", with(nil, everywhere), true, ""},
		{"no configuration, loopback", with(nil, here), false, ""},
		{"no configuration, said", with(nil, everywhere, insecure), false, ""},
		{"found by others", with(dns, everywhere), false, "and the registry dns leads other machines there: give server.tls.cert_file and key_file, or say server.tls.mode=insecure (PLINTH_SERVER_TLS_MODE=insecure)"},
		{"found by others, loopback", with(dns, here), false, ""},
		{"found by others, said", with(dns, everywhere, insecure), false, ""},
		{"required", with(nil, everywhere, required), false, "server.tls.required is set"},
		{"required, loopback", with(nil, here, required), false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var told atomic.Int64
			opts := append([]framework.Option{
				framework.WithConfigFile(""), framework.WithEnviron([]string{"HOME=" + t.TempDir()}), framework.WithLogOutput(t.Output()),
				framework.WithSetting("server.admin.addr", "127.0.0.1:0"), framework.WithSetting("server.drain.delay", "0s"),
				framework.WithEvents(func(e framework.Event) {
					if u, ok := e.(framework.Unprotected); ok && len(u.Listeners) == 1 && strings.HasPrefix(u.Listeners[0], "grpc ") {
						told.Add(1)
					}
				}),
			}, tc.opts...)
			app, err := framework.New("echo", setupEcho(plainEcho), opts...)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				select {
				case <-app.Ready():
				case <-ctx.Done():
				}
				cancel()
			}()
			err = app.Run(ctx)
			cancel()
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("err = %v, want %q", err, tc.err)
			}
			if want := map[bool]int64{true: 1}[tc.told]; told.Load() != want {
				t.Errorf("told %d times, want %d", told.Load(), want)
			}
		})
	}
}

// TestTLSBetweenServices: settings alone make mTLS of gRPC and HTTP; files that
// are broken degrade both sides and change nothing else.
func TestTLSBetweenServices(t *testing.T) {
	a, b := tlstest.NewAuthority(t, "a"), tlstest.NewAuthority(t, "b")
	ours := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "front"))
	theirs := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "back"))
	env := frameworktest.New(t)
	var logs lockedBuffer
	back := env.Start("back", func(ctx context.Context, s *framework.Service) error {
		s.Handle("GET /who", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
		}))
		return setupEcho(plainEcho)(ctx, s)
	}, framework.WithSetting("server.tls.cert_file", theirs.Cert), framework.WithSetting("server.tls.key_file", theirs.Key),
		framework.WithSetting("server.tls.client_ca_file", theirs.CA), framework.WithLogOutput(&logs))
	var web *http.Client
	front := env.Start("front", func(_ context.Context, s *framework.Service) error {
		conn, err := s.Client("back")
		if err != nil {
			return err
		}
		web = s.HTTPClient("back")
		s.RegisterService(&echoDesc, echo{say: func(ctx context.Context, in string) (string, error) { return say(ctx, conn, in) }})
		return nil
	}, framework.WithSetting("clients.default.tls.mode", "mtls"), framework.WithSetting("clients.default.tls.ca_file", ours.CA),
		framework.WithSetting("clients.default.tls.cert_file", ours.Cert), framework.WithSetting("clients.default.tls.key_file", ours.Key))
	both := func() {
		t.Helper()
		if got, err := say(t.Context(), front.Conn(), "hello"); err != nil || got != "hello" {
			t.Errorf("gRPC: %q, %v", got, err)
		}
		resp, err := web.Get("http://back/who")
		if err != nil {
			t.Errorf("HTTP: %v", err)
			return
		}
		defer resp.Body.Close()
		if got, _ := io.ReadAll(resp.Body); string(got) != "front" {
			t.Errorf("HTTP: the caller is %q", got)
		}
	}
	both()
	certificates := func(app *frameworktest.App) (check framework.CheckHealth) {
		doc := app.Health()
		for _, c := range doc.Checks {
			if c.Name == "certificates" {
				check = c
			}
		}
		if (check.Status == framework.HealthOK) != (doc.Status == framework.HealthOK) {
			t.Errorf("health is %s with %+v", doc.Status, check)
		}
		return check
	}
	for _, d := range []tlstest.Dir{ours, theirs} {
		if err := os.WriteFile(d.Key, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for app, key := range map[*frameworktest.App]string{front: ours.Key, back: theirs.Key} {
		within(t, inTime, "a degraded health", func() bool {
			c := certificates(app)
			return c.Status == framework.HealthDown && !c.Critical && strings.Contains(c.Error, key)
		})
		_, page := ask(t, app, http.MethodGet, "/metrics", "")
		for _, want := range []string{`outcome="rejected"`, "plinth_tls_certificate_expiry_timestamp_seconds", `plinth_health_check_up{check="certificates"} 0`} {
			if !strings.Contains(page, want) {
				t.Errorf("metrics do not have %s", want)
			}
		}
	}
	both()
	ours.Write(t, a.PEM(), a.Issue(t, "front"))
	theirs.Write(t, a.PEM(), a.Issue(t, "back"))
	for _, app := range []*frameworktest.App{front, back} {
		within(t, inTime, "a good health", func() bool { return certificates(app).Status == framework.HealthOK })
	}
	both()

	// Somebody with a certificate of another authority.
	theirs = tlstest.NewDir(t, t.TempDir(), a.PEM(), b.Issue(t, "stranger"))
	stranger := env.Start("stranger", func(_ context.Context, s *framework.Service) error {
		conn, err := s.Client("back")
		if err != nil {
			return err
		}
		s.RegisterService(&echoDesc, echo{say: func(ctx context.Context, in string) (string, error) { return say(ctx, conn, in) }})
		return nil
	}, framework.WithSetting("clients.back.tls.mode", "mtls"), framework.WithSetting("clients.back.tls.ca_file", theirs.CA),
		framework.WithSetting("clients.back.tls.cert_file", theirs.Cert), framework.WithSetting("clients.back.tls.key_file", theirs.Key))
	_, err := say(t.Context(), stranger.Conn(), "hello")
	if err == nil || !strings.Contains(err.Error(), "refuses the certificate in clients.back.tls.cert_file ("+theirs.Cert+")") {
		t.Errorf("the stranger's error: %v", err)
	}
	within(t, 5*time.Second, "the refusal in the log and the metrics", func() bool {
		_, page := ask(t, back, http.MethodGet, "/metrics", "")
		return strings.Contains(logs.String(), "the certificate of stranger is signed by an authority that is not in server.tls.client_ca_file") &&
			strings.Contains(page, `plinth_tls_refusals_total{reason="unknown_ca"} 1`)
	})
}
