package auth

import (
	"context"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4/json"
)

// The kinds of [Identity].
const (
	// KindMTLS is somebody who holds the key of a certificate.
	KindMTLS = "mtls"
	// KindJWT is somebody who has shown a token.
	KindJWT = "jwt"
)

// Identity is who makes a call. It is shared by calls and must not be changed.
type Identity struct {
	// Subject is the name: the claim sub of a token; of a certificate its SPIFFE
	// ID, else the first DNS name, else the common name.
	Subject string
	// Source says whose name that is: "mtls", or the [Issuer].Name of the token's
	// issuer. Subjects of two sources have nothing to do with one another.
	Source string
	// Kind is KindMTLS or KindJWT.
	Kind string
	// Issuer is who vouches for it: the claim iss, or the name of the authority
	// that signed the certificate.
	Issuer string
	// Audience is the claim aud; nil for a certificate.
	Audience []string
	// Scopes are what the token grants, the claims scope, scp and roles taken
	// together; nil for a certificate.
	Scopes []string
	// Expires is when the token or the certificate ends.
	Expires time.Time

	name   string
	claims []byte // of a token; at most MaxToken bytes
}

// String is Source and Subject as "mtls:spiffe://example.org/orders": what
// [Rule].Allow is matched against and [middleware.Caller] tells.
func (i Identity) String() string { return i.name }

// Claims decodes all claims of the token into dst, as [encoding/json] does; names
// are matched to the letter. It errs for a certificate, which has none.
func (i Identity) Claims(dst any) error {
	if i.claims == nil {
		return errors.New("decode claims: the caller showed a certificate, not a token")
	}
	return json.Unmarshal(i.claims, dst)
}

type identityKey struct{}

func with(ctx context.Context, id *Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// From is who makes the call being served. It reports false where nobody knows:
// auth is off, or the rule lets in callers that do not say who they are.
//
// Of a caller that shows both a token and a certificate it is the one that the
// rule lets in, the token's where it lets in both.
func From(ctx context.Context) (Identity, bool) {
	if id, ok := ctx.Value(identityKey{}).(*Identity); ok {
		return *id, true
	}
	return Identity{}, false
}
