package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"plinth.internal/middleware"
)

const (
	// MaxToken is the most bytes of a token.
	MaxToken = 16 << 10
	// maxRemembered is the most bytes of one that is remembered.
	maxRemembered = 4 << 10
	// maxScopes is the most scopes that are taken from a token.
	maxScopes = 256
)

// headerAuthorization is where a token stands, over both transports - RFC 6750,
// section 2.1.
const headerAuthorization = "authorization"

// tokenKey stands for a token in memory, in place of the token.
type tokenKey = [sha256.Size]byte

// verified is a token that was found to be good.
type verified struct {
	id     *Identity
	keeper *keeper
	keys   *keySet   // that it was checked with; others may not have its key any more
	until  time.Time // its end, with the leeway
}

// byToken is who the bearer token is for; nil without one, or where no tokens are
// taken.
func (a *Auth) byToken(ctx context.Context, call *middleware.Call, now time.Time) (*Identity, *RefusalError) {
	if len(a.issuers) == 0 {
		return nil, nil
	}
	header := call.Header(headerAuthorization)
	if header == "" {
		return nil, nil
	}
	scheme, token, ok := strings.Cut(header, " ")
	token = strings.Trim(token, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
		return nil, refuse(Scheme, "", "")
	}
	return a.verify(ctx, token, now)
}

// verify checks a token, or finds that it has been.
func (a *Auth) verify(ctx context.Context, token string, now time.Time) (*Identity, *RefusalError) {
	if len(token) > MaxToken {
		return nil, refuse(TooLarge, "", "it has %d bytes, must have at most %d", len(token), MaxToken)
	}
	if len(token) > maxRemembered {
		v, refusal := a.check(ctx, token, now)
		return v.id, refusal
	}
	key := sha256.Sum256([]byte(token))
	if v, ok := a.tokens.get(key); ok {
		if v.keys == v.keeper.current.Load() && now.Before(v.until) {
			return v.id, nil
		}
		a.tokens.drop(key)
	}
	v, refusal := a.check(ctx, token, now)
	if refusal != nil {
		return nil, refusal
	}
	a.tokens.put(key, v)
	return v.id, nil
}

// claims are what is looked at.
type claims struct {
	jwt.Claims

	Scope grants `json:"scope"` // RFC 8693, section 4.2: a string, separated by spaces
	Scp   grants `json:"scp"`   // what some issuers call it
	Roles grants `json:"roles"` // RFC 9068, section 2.2.3.1
}

// check goes from what costs little to the signature. Nothing that it reads on the
// way is used for anything but a refusal before that is checked.
func (a *Auth) check(ctx context.Context, token string, now time.Time) (verified, *RefusalError) {
	signed, err := jose.ParseSignedCompact(token, a.algorithms)
	if err != nil {
		if wrong, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
			return verified{}, refuse(Algorithm, "", "it is %s", quote(string(wrong.Got)))
		}
		return verified{}, refuse(Malformed, "", "it cannot be read")
	}
	header := signed.Signatures[0].Protected
	if refusal := checkHeader(header); refusal != nil {
		return verified{}, refusal
	}
	payload := signed.UnsafePayloadWithoutVerification()
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return verified{}, refuse(Malformed, "", "its claims cannot be read")
	}
	k := a.issuers[c.Issuer]
	if k == nil {
		return verified{}, refuse(UnknownIssuer, "", "it is %s", quote(c.Issuer))
	}
	if refusal := c.check(&k.issuer, now); refusal != nil {
		return verified{}, refusal
	}
	if !k.issuer.mayUse(header.Algorithm) {
		return verified{}, refuse(Algorithm, "", "it is %s, which %s may not use", quote(header.Algorithm), k.issuer.Name)
	}
	keys, key, refusal := k.key(ctx, header)
	if refusal != nil {
		return verified{}, refusal
	}
	if _, err := signed.Verify(key); err != nil {
		return verified{}, refuse(Signature, "", "of the key %s of %s", quote(header.KeyID), k.issuer.Name)
	}
	id := &Identity{
		Subject: c.Subject, Source: k.issuer.Name, Kind: KindJWT, Issuer: c.Issuer, Audience: c.Audience,
		Scopes: c.scopes(), Expires: c.Expiry.Time(), claims: payload, name: k.issuer.Name + ":" + c.Subject,
	}
	return verified{id: id, keeper: k, keys: keys, until: c.Expiry.Time().Add(Leeway)}, nil
}

// key finds the key that a token names, among new ones if need be.
func (k *keeper) key(ctx context.Context, header jose.Header) (*keySet, any, *RefusalError) {
	keys := k.current.Load()
	key := keys.find(header.KeyID, header.Algorithm)
	if key == nil {
		keys = k.renewed(ctx, keys)
		key = keys.find(header.KeyID, header.Algorithm)
	}
	switch {
	case keys == nil:
		return nil, nil, refuse(KeysUnavailable, "", "those of %s at %s", k.issuer.Name, k.issuer.place())
	case key == nil:
		return nil, nil, refuse(UnknownKey, "", "%s has no key %s for %s", k.issuer.Name, quote(header.KeyID), header.Algorithm)
	}
	return keys, key, nil
}

// checkHeader refuses what is no token for access, and what this package does not
// know but must - RFC 7515, section 4.1.11.
func checkHeader(h jose.Header) *RefusalError {
	if _, critical := h.ExtraHeaders["crit"]; critical {
		return refuse(Malformed, "", "it has critical headers")
	}
	typ, ok := h.ExtraHeaders[jose.HeaderType]
	if !ok {
		return nil
	}
	// "Use Explicit Typing" - RFC 8725, section 3.11: a token of another type says
	// something else.
	text, _ := typ.(string)
	if short := strings.TrimPrefix(strings.ToLower(text), "application/"); short != "jwt" && short != "at+jwt" {
		return refuse(Malformed, "", "its type is %s", quote(text))
	}
	return nil
}

// check looks at everything but the signature.
func (c *claims) check(i *Issuer, now time.Time) *RefusalError {
	switch {
	case c.Expiry == nil:
		return refuse(Malformed, "", "it has no claim exp")
	case !validSubject(c.Subject):
		return refuse(Malformed, "", "its claim sub is empty, above %d bytes, or has control characters in it", maxSubject)
	case now.After(c.Expiry.Time().Add(Leeway)):
		return refuse(Expired, "", "at %s", c.Expiry.Time().UTC().Format(time.RFC3339))
	case c.NotBefore != nil && now.Before(c.NotBefore.Time().Add(-Leeway)):
		return refuse(NotYetValid, "", "before %s", c.NotBefore.Time().UTC().Format(time.RFC3339))
	case c.IssuedAt != nil && now.Before(c.IssuedAt.Time().Add(-Leeway)):
		return refuse(NotYetValid, "", "it was issued at %s: look at the clocks", c.IssuedAt.Time().UTC().Format(time.RFC3339))
	case !slices.ContainsFunc(i.Audiences, c.Audience.Contains):
		return refuse(WrongAudience, "", "it is for %s", quote(strings.Join(c.Audience, " ")))
	}
	return nil
}

// scopes are all that the token grants.
func (c *claims) scopes() []string {
	all := slices.Concat(c.Scope, c.Scp, c.Roles)
	return all[:min(len(all), maxScopes):min(len(all), maxScopes)]
}

// grants is a text separated by spaces or a list of texts. Anything else grants
// nothing.
type grants []string

// UnmarshalJSON never errs: some issuers have other things in claims of these
// names.
func (g *grants) UnmarshalJSON(b []byte) error {
	var text string
	var list []string
	if json.Unmarshal(b, &text) == nil {
		*g = strings.Fields(text)
	} else if json.Unmarshal(b, &list) == nil {
		*g = list
	}
	return nil
}
