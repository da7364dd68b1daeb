package framework_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/internal/tlsfiles/tlstest"
)

// TestChangeNamesFiles: a change that names a file which is missing or bad is not
// taken, whatever the calls were made with before, and is taken once the file is
// good. A file in use that turns bad holds up no other change.
func TestChangeNamesFiles(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	ours, theirs := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "front")), tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "back"))
	insecure := "{mode: insecure}"
	mutual := func(ca string) string {
		return fmt.Sprintf("\n      mode: mtls\n      cert_file: %s\n      key_file: %s\n      ca_file: %s", ours.Cert, ours.Key, ca)
	}
	missing, token := filepath.Join(t.TempDir(), "later.pem"), filepath.Join(t.TempDir(), "token")
	for _, tc := range []struct {
		name          string
		before, after string // of clients.back
		line          string
		want          string // the error
		mend          func() error
	}{
		{
			"from plain to TLS", "tls: " + insecure, "tls: " + mutual(missing), "7: clients.back.tls.ca_file: ",
			`"` + missing + `" is of no use, and the change is taken once it is: read a file for TLS: open ` + missing,
			func() error { return os.WriteFile(missing, a.PEM(), 0o600) },
		},
		{
			"another authority", "tls: " + mutual(ours.CA), "tls: " + mutual(missing), "7: clients.back.tls.ca_file: ", "there is no certificate in PEM form",
			func() error { return os.WriteFile(missing, a.PEM(), 0o600) },
		},
		{
			"a token", "tls: " + insecure, "token_file: " + token + "\n    tls: " + insecure, "3: clients.back.token_file: ", "read token: open " + token,
			func() error { return os.WriteFile(token, []byte("abc"), 0o600) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.name == "another authority" {
				if err := os.WriteFile(missing, []byte("to come"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			env := frameworktest.New(t)
			env.Start("back", func(ctx context.Context, s *framework.Service) error {
				s.Handle("GET /who", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
				return setupEcho(plainEcho)(ctx, s)
			}, framework.WithSetting("server.tls.cert_file", theirs.Cert), framework.WithSetting("server.tls.key_file", theirs.Key),
				framework.WithSetting("server.tls.mode", "permissive"))
			document := func(back, rest string) string { return "clients:\n  back:\n    " + back + "\n" + rest }
			f := newFile(t, document(tc.before, ""))
			var web *http.Client
			front := env.Start("front", func(_ context.Context, s *framework.Service) error {
				web = s.HTTPClient("back")
				conn, err := s.Client("back")
				if err != nil {
					return err
				}
				s.RegisterService(&echoDesc, echo{say: func(ctx context.Context, in string) (string, error) { return say(ctx, conn, in) }})
				return nil
			}, framework.WithConfigFile(f.path))
			both := func() {
				t.Helper()
				if _, err := say(t.Context(), front.Conn(), "hello"); err != nil {
					t.Errorf("gRPC: %v", err)
				}
				resp, err := web.Get("http://back/who")
				if err != nil {
					t.Errorf("HTTP: %v", err)
					return
				}
				_ = resp.Body.Close()
			}
			both()
			f.write(document(tc.after, ""))
			within(t, inTheEnd, "the rejection", func() bool {
				_, check := configCheck(front)
				return check.Status == framework.HealthDown && strings.Contains(check.Error, f.path+":"+tc.line) && strings.Contains(check.Error, tc.want)
			})
			both()
			if err := tc.mend(); err != nil {
				t.Fatal(err)
			}
			within(t, inTheEnd, "the change", func() bool { return debugConfig(t, front).Reload.Outcome == "applied" })
			both()
			if strings.Contains(tc.after, missing) {
				if err := os.WriteFile(missing, []byte("half"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f.write(document(tc.after, "telemetry: {log: {level: debug}}\n"))
			within(t, inTheEnd, "another change", func() bool { return debugConfig(t, front).Values["telemetry.log.level"].Value == "debug" })
			both()
		})
	}
}
