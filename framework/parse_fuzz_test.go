package framework

import (
	"math"
	"net"
	"strconv"
	"strings"
	"testing"

	"plinth.internal/config"
)

// FuzzFlags: a command line is read or refused, and every flag has a key.
func FuzzFlags(f *testing.F) {
	for _, s := range []string{"--server.grpc.addr=:1", "-h", "--help=x", "--config=", "--config=f", "--", "-", "x", "--=x", "--a", "---a=b", "--version"} {
		f.Add(s, "next")
		f.Add("--key", s)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		flags, err := parseFlags([]string{first, second})
		if err != nil {
			return
		}
		if len(flags.options) > 2 || len(flags.options) == 0 && flags.command == "" {
			t.Fatalf("%q %q are %d options and the command %q", first, second, len(flags.options), flags.command)
		}
		o := options{settings: map[string]string{}}
		for _, opt := range flags.options {
			opt.apply(&o)
		}
	})
}

// FuzzSettings: the values that read themselves are within their bounds and are
// written as they are read.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{"", "0", "1", "-1", "5.5", "100", "100.1", "NaN", "Inf", "1e400", "true", "FALSE", "t", "99999999999999999999", "0x1p-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var p percentage
		if p.UnmarshalText([]byte(s)) == nil {
			if !p.given || !(p.value >= 0 && p.value <= 100) {
				t.Fatalf("%q is %v %%", s, p.value)
			}
			text, err := p.MarshalText()
			if back, perr := strconv.ParseFloat(string(text), 64); err != nil || perr != nil || math.Abs(back-p.value) > 0 {
				t.Fatalf("%v %% is written %q", p.value, text)
			}
		}
		var n, again subsetSize
		if n.UnmarshalText([]byte(s)) == nil {
			text, err := n.MarshalText()
			if err != nil || n == 0 || again.UnmarshalText(text) != nil || again != n {
				t.Fatalf("%q is %d, written %q", s, n, text)
			}
		}
		var on toggle
		if on.UnmarshalText([]byte(s)) == nil {
			want, err := strconv.ParseBool(s)
			if err != nil || (on == toggleOn) != want {
				t.Fatalf("%q is %v", s, on)
			}
		}
	})
}

// FuzzAddresses: an address to listen on has a port that there is, and a target that
// is taken has a scheme and no password.
func FuzzAddresses(f *testing.F) {
	for _, s := range []string{":9000", "h:1", "[::1]:65535", "h:65536", "h:-1", ":", "", "registry", "xds:///orders", "dns:///u:p@h:1", "unix:@x", "{service}:1", "x:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if isAddr(s) {
			_, port, err := net.SplitHostPort(s)
			if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > math.MaxUint16 {
				t.Errorf("%q is taken for an address", s)
			}
		}
		var v violations
		v.checkTarget(s)
		if v != nil || s == "" || s == targetRegistry {
			return
		}
		scheme, rest, ok := strings.Cut(s, ":")
		if !ok || scheme == "" || rest == "" || config.HasUserinfo(s) && !strings.HasPrefix(scheme, "unix") {
			t.Errorf("%q is taken for a target", s)
		}
	})
}
