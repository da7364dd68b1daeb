package tlsfiles_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/internal/tlsfiles"
	"plinth.internal/internal/tlsfiles/tlstest"
)

func files(d tlstest.Dir) tlsfiles.Files {
	return tlsfiles.Files{CA: d.CA, Cert: d.Cert, Key: d.Key}
}

func TestRead(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	good := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders"))
	other := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders"))
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		files tlsfiles.Files
		want  string // "" = good
	}{
		{"all", files(good), ""},
		{"none", tlsfiles.Files{}, ""},
		{"only roots", tlsfiles.Files{CA: good.CA}, ""},
		{"only certificate", tlsfiles.Files{Cert: good.Cert}, "certificate and key: must both be given"},
		{"no such file", tlsfiles.Files{CA: bad + "x"}, "bad.pemx: no such file"},
		{"no roots", tlsfiles.Files{CA: bad}, "read roots from " + bad},
		{"bad certificate", tlsfiles.Files{Cert: bad, Key: good.Key}, "read certificate from " + bad},
		{"key of another", tlsfiles.Files{Cert: good.Cert, Key: other.Key}, "private key does not match"},
	} {
		m, err := tlsfiles.Read(tc.files)
		if tc.want != "" {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: err = %v, want %q", tc.name, err, tc.want)
			}
			continue
		}
		if err != nil || (m.Roots != nil) != (tc.files.CA != "") || (m.Certificate != nil) != (tc.files.Cert != "") {
			t.Errorf("%s: %+v, %v", tc.name, m, err)
		}
	}
}

// TestPoll goes through the life of files: renewed one after the other, broken,
// gone, expired, well again.
func TestPoll(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	first, second := a.Issue(t, "first"), a.Issue(t, "second")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), first)
	s := tlsfiles.New(files(d))
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) func() {
		return func() {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := func(p tlstest.Pair) func() { return func() { d.Write(t, a.PEM(), p) } }
	for _, step := range []struct {
		name string
		do   func()
		// news and err are of the second poll after it; the first one must
		// never have any.
		news bool
		err  string
		in   string // the certificate in use then
	}{
		{"nothing", func() {}, false, "", "first"},
		{"half of a renewal", write(d.Cert, second.Cert), true, "does not match", "first"},
		{"the other half", write(d.Key, second.Key), true, "", "second"},
		{"broken", write(d.CA, []byte("x")), true, "no certificate in PEM form", "second"},
		{"still broken", func() {}, false, "", "second"},
		{"mended as it was", write(d.CA, a.PEM()), true, "", "second"},
		{"gone", func() { _ = os.Remove(d.Key) }, true, "no such file", "second"},
		{"expired", all(a.Issue(t, "old", tlstest.Expired())), true, "it has expired at", "second"},
		{"renewed", all(first), true, "", "first"},
	} {
		step.do()
		if step.news {
			if news, err := s.Poll(time.Now()); news {
				t.Errorf("%s: the first poll has news, %v", step.name, err)
			}
		}
		news, err := s.Poll(time.Now())
		text := ""
		if err != nil {
			text = err.Error()
		}
		if news != step.news || step.news && (step.err == "") != (err == nil) || !strings.Contains(text, step.err) {
			t.Errorf("%s: Poll = %v, %v; want %v, %q", step.name, news, err, step.news, step.err)
		}
		if in := s.Current().Certificate.Leaf.Subject.CommonName; in != step.in {
			t.Errorf("%s: %s is in use, want %s", step.name, in, step.in)
		}
		if broken := s.Err(time.Now()) != nil; step.news && broken != (step.err != "") {
			t.Errorf("%s: Err = %v", step.name, s.Err(time.Now()))
		}
	}
	if err := s.Err(time.Now().Add(48 * time.Hour)); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("two days later: Err = %v", err)
	}
}

// TestTimeAlone: what is not valid yet is taken when its time has come, without
// another change.
func TestTimeAlone(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "now"))
	s := tlsfiles.New(files(d))
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	d.Write(t, a.PEM(), a.Issue(t, "next"))
	early := time.Now().Add(-2 * time.Hour)
	for i, want := range []bool{false, true, false} {
		if news, err := s.Poll(early); news != want || want && (err == nil || !strings.Contains(err.Error(), "valid from")) {
			t.Errorf("poll %d: %v, %v", i, news, err)
		}
	}
	if news, err := s.Poll(time.Now()); !news || err != nil || s.Current().Certificate.Leaf.Subject.CommonName != "next" {
		t.Errorf("at its time: %v, %v", news, err)
	}
}

func TestFollow(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders"))
	synctest.Test(t, func(t *testing.T) {
		s := tlsfiles.New(tlsfiles.Files{CA: d.CA})
		if err := s.Refresh(); err != nil {
			t.Fatal(err)
		}
		told := make(chan error, 10)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tlsfiles.Follow(ctx, func() []*tlsfiles.Set { return []*tlsfiles.Set{s} }, func(_ *tlsfiles.Set, err error) { told <- err })
		}()
		begun := time.Now()
		if err := os.WriteFile(d.CA, tlstest.NewAuthority(t, "b").PEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := <-told; err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 2*tlsfiles.PollInterval {
			t.Errorf("taken after %v, want two intervals at most", took)
		}
		cancel()
		<-ended
	})
}

// TestExpiresInUse: a certificate whose time has come is told of once, although
// nothing has changed, and so is its renewal.
func TestExpiresInUse(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "first"))
	s := tlsfiles.New(files(d))
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	end := s.Current().NotAfter()
	for i, step := range []struct {
		now  time.Time
		want bool
	}{{end.Add(-time.Minute), false}, {end, false}, {end.Add(time.Second), true}, {end.Add(2 * time.Second), false}, {end.Add(time.Hour), false}} {
		if news, err := s.Poll(step.now); news != step.want || news && (err == nil || !strings.Contains(err.Error(), "it has expired at")) {
			t.Errorf("poll %d: %v, %v; want %v", i, news, err, step.want)
		}
	}
	d.Write(t, a.PEM(), a.Issue(t, "second", tlstest.Until(end.Add(24*time.Hour))))
	_, _ = s.Poll(end.Add(2 * time.Hour))
	if news, err := s.Poll(end.Add(2 * time.Hour)); !news || err != nil || s.Current().Certificate.Leaf.Subject.CommonName != "second" {
		t.Errorf("renewed: %v, %v", news, err)
	}
}

func TestRenewBy(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	if by := (*tlsfiles.Material)(nil).RenewBy(); !by.IsZero() {
		t.Errorf("without a certificate: %v", by)
	}
	for _, tc := range []struct{ end, before time.Duration }{ // issued an hour ago
		{2 * time.Hour, time.Hour}, {11 * time.Hour, 4 * time.Hour}, {90 * 24 * time.Hour, 7 * 24 * time.Hour},
	} {
		d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "x", tlstest.Until(time.Now().Add(tc.end))))
		m, err := tlsfiles.Read(files(d))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.NotAfter().Sub(m.RenewBy()); (got - tc.before).Abs() > 2*time.Second {
			t.Errorf("%v: renew %v before its end, want %v", tc.end, got, tc.before)
		}
	}
}
