package tlsfiles_test

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plinth.internal/internal/tlsfiles"
	"plinth.internal/internal/tlsfiles/tlstest"
)

// TestWholeFiles: part of a bundle or of a chain is not taken for the whole, and
// what people write around certificates does no harm.
func TestWholeFiles(t *testing.T) {
	a, b := tlstest.NewAuthority(t, "a"), tlstest.NewAuthority(t, "b")
	ours := a.Issue(t, "orders")
	one, both := string(a.PEM()), string(a.PEM())+string(b.PEM())
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no certificate")})
	for _, tc := range []struct {
		name, text string
		want       string // "" = good
	}{
		{"two", both, ""},
		{"comments between", "# a's\n" + one + "\nSubject: b\n=====\n-- b --\n" + string(b.PEM()) + "the end", ""},
		{"ends of lines as on Windows", strings.ReplaceAll(both, "\n", "\r\n"), ""},
		{"no end of the last line", strings.TrimRight(both, "\n"), ""},
		{"a key beside it", both + string(ours.Key), ""},
		{"cut in the second", both[:len(one)+300], "the PEM block that begins on line "},
		{"cut in the last line", both[:len(both)-10], "the PEM block that begins on line "},
		{"cut in the second's first line", both[:len(one)+12], "is not complete"},
		{"cut in its first word", both[:len(one)+3], "is not complete"},
		{"the beginning is missing", one[100:] + string(b.PEM()), "line 1 is not complete"},
		{"a block in a block", one[:200] + "\n" + string(b.PEM()), "line 1 is not complete"},
		{"moved in", "  " + strings.ReplaceAll(one, "\n", "\n  ") + "\n" + string(b.PEM()), "line 1 is not complete, or is not PEM"},
		{"no certificate in the second", one + string(broken), "the certificate that begins on line "},
		{"none", "# to come\n", "there is no certificate in PEM form"},
	} {
		ca := filepath.Join(t.TempDir(), "ca.pem")
		cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
		for name, data := range map[string][]byte{ca: []byte(tc.text), cert: append(bytes.Clone(ours.Cert), tc.text...), key: ours.Key} {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for in, files := range map[string]tlsfiles.Files{ca: {CA: ca}, cert: {Cert: cert, Key: key}} {
			want := tc.want
			if in == cert { // the leaf stands before it
				want = strings.ReplaceAll(want, "line 1 ", "")
				if tc.name == "none" {
					want = ""
				}
			}
			_, err := tlsfiles.Read(files)
			if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), in) || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s, %v: err = %v, want %q", tc.name, files, err, want)
			}
		}
	}
}

// TestPollKeepsWhole: while a bundle is half written the whole one stays in use.
func TestPollKeepsWhole(t *testing.T) {
	a, b := tlstest.NewAuthority(t, "a"), tlstest.NewAuthority(t, "b")
	both := append(a.PEM(), b.PEM()...)
	d := tlstest.NewDir(t, t.TempDir(), both, a.Issue(t, "orders"))
	s := tlsfiles.New(files(d))
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	before := s.Current()
	if err := os.WriteFile(d.CA, both[:len(a.PEM())+300], 0o600); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Poll(time.Now())
	if news, err := s.Poll(time.Now()); !news || err == nil || s.Current() != before {
		t.Errorf("Poll = %v, %v; the same is in use: %v", news, err, s.Current() == before)
	}
}
