package framework

import (
	"strings"
	"testing"
)

// TestEmptyScopes: a rule whose scopes were forgotten does not let everybody in.
func TestEmptyScopes(t *testing.T) {
	const want = "plinth.yaml:1: server.auth.policy.a.scopes: has nothing behind it"
	_, err := bindSettings(t, "server: {auth: {mode: on, policy: {a: {methods: ['*'], allow: [any], scopes: }}}}\n")
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}
