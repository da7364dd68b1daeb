package config_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"plinth.internal/config"
)

func TestMask(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "",
		"127.0.0.1:2379":                        "127.0.0.1:2379",
		"corp:ann@example.com":                  "corp:ann@example.com",
		"http://etcd:2379":                      "http://etcd:2379",
		"http://u:pw@etcd:2379":                 "http://u:***@etcd:2379",
		"http://u:p@w@etcd:2379":                "http://u:***@etcd:2379",
		"http://u:p/w@etcd:2379":                "http://u:***@etcd:2379",
		"http://u:p?w@etcd":                     "http://u:***@etcd",
		"http://token@etcd":                     "http://***@etcd",
		"http://:pw@etcd":                       "http://:***@etcd",
		"http://[::1]:9000/a@b":                 "http://[::1]:9000/a@b",
		"http://etcd:9000/a@b":                  "http://etcd:9000/a@b",
		"dns:///u:pw@host:1":                    "dns:///u:***@host:1",
		"spiffe://example.org/ns/a":             "spiffe://example.org/ns/a",
		"https://idp/keys?key=pw&v=2#x":         "https://idp/keys?key=***&v=***#x",
		"https://idp/keys?pw":                   "https://idp/keys?***",
		"https://idp/?to=http://u:pw@b":         "https://idp/?to=***",
		"http://u:p1@a,http://u:p2@b":           "http://u:***@a,http://u:***@b",
		`get "http://u:pw@a": refused, a@b`:     `get "http://u:***@a": refused, a@b`,
		"first http://u:pw@a\nthen grpc://v:w@": "first http://u:***@a\nthen grpc://v:***@",
	} {
		if got := config.Mask(in); got != want {
			t.Errorf("Mask(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestHasUserinfo(t *testing.T) {
	for in, want := range map[string]bool{
		"": false, "etcd:2379": false, "http://etcd:2379/a@b": false, "xds:///orders": false, "unix:///tmp/a@b": false,
		"u:pw@etcd:2379": true, "u@etcd": true, "http://u:pw@etcd": true, "http://u:p/w@etcd": true, "dns:u:pw@host": true,
		"dns:///u:pw@host": true,
	} {
		if got := config.HasUserinfo(in); got != want {
			t.Errorf("HasUserinfo(%q) = %v, want %v", in, got, want)
		}
	}
}

type urlSettings struct {
	One  string            `yaml:"one"`
	Many []string          `yaml:"many"`
	Map  map[string]string `yaml:"map"`
	Bad  int               `yaml:"bad"`
	Link link              `yaml:"link"`
}

type link struct{ *url.URL }

func (l *link) UnmarshalText(b []byte) (err error) {
	l.URL, err = url.Parse(string(b))
	return err
}

func (l link) MarshalText() ([]byte, error) {
	if l.URL == nil {
		return nil, nil
	}
	return []byte(l.String()), nil
}

type brokenSettings struct {
	One string `yaml:"one"`
	Two string `yaml:"two"`
}

func (b *brokenSettings) Validate() error {
	return errors.Join(config.Invalid("one", "is %s, which is bad", b.One), config.InvalidUnshown("two", "has a password"), errors.New("at "+b.One))
}

// TestMaskedEverywhere: no way of showing a value shows what a URL keeps secret.
func TestMaskedEverywhere(t *testing.T) {
	const bad = "http://u:pwsecret@a/?k=pwsecret"
	load := func(flags ...string) *config.Config {
		c, err := config.Load(config.WithFlags(flags))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := load("one="+bad, "many="+bad+","+bad, "map.a="+bad, "link="+bad)
	got, err := config.Bind(c, "", urlSettings{})
	if err != nil || got.One != bad || got.Map["a"] != bad {
		t.Fatalf("%+v, %v: what is masked is still in use", got, err)
	}
	var shown []string
	for _, e := range c.Entries() {
		shown = append(shown, e.Key+"="+e.Value)
	}
	for _, k := range config.Describe(urlSettings{One: bad}) {
		shown = append(shown, k.Default)
	}
	for _, flag := range []string{"bad=" + bad, "link=http://u:pwsecret\x7f@a", "map=" + bad} {
		_, err := config.Bind(load(flag), "", urlSettings{})
		if err == nil {
			t.Errorf("%s was taken", flag)
			continue
		}
		shown = append(shown, err.Error())
	}
	_, err = config.Bind(load("one="+bad, "two=u:pwsecret@a"), "", brokenSettings{})
	shown = append(shown, err.Error())
	for _, s := range shown {
		if strings.Contains(s, "pwsecret") {
			t.Errorf("shown: %s", s)
		}
	}
	if all := strings.Join(shown, "\n"); !strings.Contains(all, "one=http://u:***@a/?k=***") || !strings.Contains(all, `flag --two: two: has a password`) {
		t.Errorf("shown:\n%s", all)
	}
}

func FuzzMask(f *testing.F) {
	for _, s := range []string{"http://u:pw@a/b?c=d#e", "a,b://c:d@e,f://g", "://@", "x://[::1]:1/?&=&", "dns:///a:b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := config.Mask(s)
		if again := config.Mask(got); again != got {
			t.Errorf("Mask(%q) = %q, and that masked is %q", s, got, again)
		}
		// What a program would take for the password is never there.
		if u, err := url.Parse(s); err == nil && u.Scheme != "" && u.User != nil && u.Host != "" {
			v, err := url.Parse(got)
			if err != nil {
				t.Errorf("Mask(%q) = %q: %v", s, got, err)
				return
			}
			if pw, ok := v.User.Password(); ok && pw != "***" {
				t.Errorf("Mask(%q) = %q", s, got)
			}
		}
	})
}
