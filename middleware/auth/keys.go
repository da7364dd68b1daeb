package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// What a set of keys may hold.
const (
	// MaxKeys is the most bytes of a set of keys.
	MaxKeys = 1 << 20
	// minRSABits is what RFC 7518, section 3.3 wants: "A key of size 2048 bits
	// or larger MUST be used".
	minRSABits = 2048
)

// keySet is the public keys of one issuer. It is never changed.
type keySet struct{ keys []publicKey }

type publicKey struct {
	id         string
	key        any      // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	algorithms []string // that it may be used with
}

// parseKeys reads a JWK Set. Keys of kinds that are not known, and those that
// encrypt, are left out - RFC 7517, section 5: "Implementations SHOULD ignore JWKs
// within a JWK Set that use kty values that are not understood by them". It errs
// on secrets, which have no business there, and where no key is left.
func parseKeys(data []byte) (*keySet, error) {
	if len(data) > MaxKeys {
		return nil, fmt.Errorf("read keys: there are more than %d bytes", MaxKeys)
	}
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("read keys: it is not a JSON Web Key Set: %w", err)
	}
	set := &keySet{}
	for _, raw := range doc.Keys {
		var jwk jose.JSONWebKey
		if err := jwk.UnmarshalJSON(raw); err != nil || jwk.Key == nil || jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		if !jwk.IsPublic() {
			return nil, fmt.Errorf("read keys: the key %s is a secret or a private key: publish public keys only, and replace this one", quote(jwk.KeyID))
		}
		algorithms := algorithmsOf(jwk.Key)
		if jwk.Algorithm != "" {
			algorithms = slices.DeleteFunc(algorithms, func(a string) bool { return a != jwk.Algorithm })
		}
		if len(algorithms) > 0 {
			set.keys = append(set.keys, publicKey{jwk.KeyID, jwk.Key, algorithms})
		}
	}
	if len(set.keys) == 0 {
		return nil, errors.New("read keys: there is none that can check a signature (RSA with 2048 bits or more, P-256, P-384, P-521 or Ed25519)")
	}
	return set, nil
}

// algorithmsOf are those that a key fits; none for one that is of no use.
func algorithmsOf(key any) []string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSABits {
			return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
		}
	case *ecdsa.PublicKey:
		switch key.Curve.Params().Name {
		case "P-256":
			return []string{"ES256"}
		case "P-384":
			return []string{"ES384"}
		case "P-521":
			return []string{"ES512"}
		}
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	}
	return nil
}

// find is the key for a token; nil for none. A token that names no key is checked
// with the only one that fits its algorithm.
func (s *keySet) find(id, algorithm string) any {
	if s == nil {
		return nil
	}
	var found any
	for i := range s.keys {
		k := &s.keys[i]
		if !slices.Contains(k.algorithms, algorithm) || id != "" && k.id != id {
			continue
		}
		if id != "" {
			return k.key
		}
		if found != nil {
			return nil // which one was meant?
		}
		found = k.key
	}
	return found
}
