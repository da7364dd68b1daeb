package auth

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// DefaultRefresh is the time between two readings of keys that have a URL.
	DefaultRefresh = 5 * time.Minute
	// MinRefresh is the least time between two of them, whatever is asked for.
	MinRefresh = 10 * time.Second
	// Leeway is how far the clock of an issuer may be from ours.
	Leeway = 30 * time.Second
)

// Issuer is somebody whose tokens are taken.
type Issuer struct {
	// Name is what the issuer's subjects are called by in [Rule].Allow, in logs
	// and in metrics: letters, digits, "-" and "_"; required. "mtls" is taken.
	Name string
	// Issuer is what the claim iss must be, to the letter; required.
	Issuer string
	// Audiences are those that a token may be for: its claim aud must name one
	// of them. One at least.
	Audiences []string
	// Keys is where the issuer's public keys are (a JWK Set, RFC 7517): a file,
	// or a URL that begins with https: or http:. Required. A changed file is in
	// use within a second; a URL is read every Refresh, and when a token names a
	// key that is not known, at most once in MinRefresh.
	Keys string
	// InsecureHTTP takes keys by http: from other machines as well. Whoever is
	// on the way can then make tokens for everybody.
	InsecureHTTP bool
	// Algorithms are those that the issuer may sign with, of [Algorithms]; none
	// means all of them. The key must fit.
	Algorithms []string
	// Refresh is the time between two readings of a URL, give or take a tenth;
	// 0 means DefaultRefresh. At least MinRefresh.
	Refresh time.Duration
}

// Algorithms are all that a token may be signed with. Those with a shared secret
// are not among them: a public key would be taken for it.
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// joseAlgorithms are the same for the library.
func joseAlgorithms() []jose.SignatureAlgorithm {
	var out []jose.SignatureAlgorithm
	for _, a := range Algorithms() {
		out = append(out, jose.SignatureAlgorithm(a))
	}
	return out
}

// IssuerError is one thing that is wrong with an [Issuer].
type IssuerError struct {
	// Issuer is its name, Field the field of [Issuer].
	Issuer, Field string
	// Constraint says what is wrong with the value and what is wanted.
	Constraint string
	// Secret says that the value must not be shown.
	Secret bool
}

// Error names the issuer, the field and the constraint.
func (e *IssuerError) Error() string {
	return fmt.Sprintf("issuer %q: %s %s", e.Issuer, e.Field, e.Constraint)
}

// ValidateIssuers checks what is known without reading any keys. The error joins
// [IssuerError]s.
func ValidateIssuers(issuers []Issuer) error {
	var errs []error
	names, claims := map[string]bool{}, map[string]bool{}
	for _, i := range issuers {
		check := func(bad bool, field, format string, args ...any) {
			if bad {
				errs = append(errs, &IssuerError{Issuer: i.Name, Field: field, Constraint: fmt.Sprintf(format, args...)})
			}
		}
		check(!validName(i.Name), "Name", "must be letters, digits, - and _")
		check(slices.Contains([]string{KindMTLS, Any, Anonymous}, i.Name), "Name", "is taken: give it another one")
		check(names[i.Name], "Name", "is another issuer's already")
		check(i.Issuer == "", "Issuer", "must be what the claim iss says")
		check(claims[i.Issuer], "Issuer", "is another issuer's already")
		names[i.Name], claims[i.Issuer] = true, true
		check(len(i.Audiences) == 0 || slices.Contains(i.Audiences, ""), "Audiences",
			"must name who tokens are for: those for other services would be taken otherwise")
		check(i.Refresh != 0 && i.Refresh < MinRefresh, "Refresh", "is below %v", MinRefresh)
		for _, a := range i.Algorithms {
			check(!slices.Contains(Algorithms(), a), "Algorithms", "%s is none of %s", quote(a), strings.Join(Algorithms(), ", "))
		}
		if err := i.checkKeys(); err != nil {
			errs = append(errs, &IssuerError{Issuer: i.Name, Field: "Keys", Constraint: err.Error(), Secret: errors.Is(err, errPassword)})
		}
	}
	return errors.Join(errs...)
}

// remote reports keys that have a URL.
func (i *Issuer) remote() bool {
	return strings.HasPrefix(i.Keys, "https:") || strings.HasPrefix(i.Keys, "http:")
}

// errPassword stands for a URL that must not be shown.
var errPassword = errors.New("has a password in it, which would be shown with the rest of the URL: public keys need none")

func (i *Issuer) checkKeys() error {
	if i.Keys == "" {
		return errors.New("must be the file or the URL of the issuer's public keys")
	}
	if !i.remote() {
		return nil
	}
	u, err := url.Parse(i.Keys)
	switch {
	case err != nil || u.Host == "":
		return errors.New("is not a URL")
	case u.User != nil:
		return errPassword
	}
	return i.checkScheme(u)
}

// checkScheme holds that keys come over TLS, or from this machine.
func (i *Issuer) checkScheme(u *url.URL) error {
	if u.Scheme == "https" || u.Scheme == "http" && (i.InsecureHTTP || isLoopback(u.Hostname())) {
		return nil
	}
	return errors.New("leads to " + quote(u.Scheme) + " on another machine, where anybody on the way can change the keys: use https:")
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// place is where the keys are, without what may be nobody's business.
func (i *Issuer) place() string {
	if !i.remote() {
		return i.Keys
	}
	place, _, _ := strings.Cut(i.Keys, "?")
	return place
}

func (i *Issuer) refresh() time.Duration { return cmp.Or(i.Refresh, DefaultRefresh) }

func (i *Issuer) mayUse(algorithm string) bool {
	return len(i.Algorithms) == 0 || slices.Contains(i.Algorithms, algorithm)
}
