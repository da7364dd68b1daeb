package middleware

import (
	"encoding/base64"
	"strings"
)

// pairs is metadata that one call sets: key, value, key, value, ... There are so
// few that a map costs more.
type pairs []string

func (p *pairs) add(key, value string) { *p = append(*p, key, value) }

// set puts the value in place of another one with the key.
func (p *pairs) set(key, value string) {
	for i := 0; i < len(*p); i += 2 {
		if (*p)[i] == key {
			(*p)[i+1] = value
			return
		}
	}
	p.add(key, value)
}

// setOrRemove is set, but for "", which removes the key.
func (p *pairs) setOrRemove(key, value string) {
	if value != "" {
		p.set(key, value)
		return
	}
	for i := 0; i < len(*p); i += 2 {
		if (*p)[i] == key {
			*p = append((*p)[:i], (*p)[i+2:]...)
			return
		}
	}
}

func (p *pairs) get(key string) (string, bool) {
	for i := 0; i < len(*p); i += 2 {
		if (*p)[i] == key {
			return (*p)[i+1], true
		}
	}
	return "", false
}

// runAll runs what it is given and forgets it, so that it runs once.
func runAll(fns *[]func()) {
	list := *fns
	*fns = nil
	for _, fn := range list {
		fn()
	}
}

// binarySuffix marks keys whose values are bytes, as in the gRPC specification
// ("PROTOCOL-HTTP2"): "Binary headers are identified by their name ending in
// -bin".
const binarySuffix = "-bin"

func isBinary(key string) bool {
	return len(key) > len(binarySuffix) && strings.EqualFold(key[len(key)-len(binarySuffix):], binarySuffix)
}

// toHTTP writes a value as an HTTP header holds it.
func toHTTP(key, value string) string {
	if !isBinary(key) {
		return value
	}
	return base64.RawStdEncoding.EncodeToString([]byte(value))
}

// fromHTTP reads a value of an HTTP header; "" where it should be base64 and is
// not. "Implementations MUST accept padded and un-padded values".
func fromHTTP(key, value string) string {
	if !isBinary(key) {
		return value
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return ""
	}
	return string(b)
}
