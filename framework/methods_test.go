package framework_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/middleware/auth"
)

// TestMethodsOfRules: a rule for what the service does not have is told of at the start
// and when it comes later, once, and shown for as long as it is there.
func TestMethodsOfRules(t *testing.T) {
	const rates = "server: {auth: {mode: on, policy: {wide: {methods: [test.v1.*, test.v1.Echo/Sya], allow: [anonymous]}}}, limit: {rate: {typo: {method: GET /ping, rps: 1}"
	f := newFile(t, rates+"}}}\n")
	told := make(chan framework.MethodUnserved, 100)
	app := frameworktest.Start(t, "echo", func(ctx context.Context, s *framework.Service) error {
		s.Handle("GET /pong", http.NotFoundHandler())
		return setupEcho(plainEcho)(ctx, s)
	}, framework.WithConfigFile(f.path), framework.WithAuth(auth.Policy{Rules: []auth.Rule{{Name: "code", Methods: []string{"GET /pnog", "GET /*"}, Allow: []string{auth.Any}}}}),
		framework.WithEvents(func(e framework.Event) {
			if e, ok := e.(framework.MethodUnserved); ok {
				told <- e
			}
		}))
	place := f.path + ":1"
	for _, want := range []framework.MethodUnserved{
		{Key: "server.limit.rate.typo.method", Place: place, Method: "GET /ping", Nearest: "GET /pong"},
		{Key: "server.auth.policy.wide.methods", Place: place, Method: "test.v1.Echo/Sya", Nearest: "test.v1.Echo/Say"},
		{Key: "framework.WithAuth rule code", Method: "GET /pnog", Nearest: "GET /pong"},
	} {
		if got := <-told; got != want {
			t.Errorf("told of %+v, want %+v", got, want)
		}
	}
	f.write(rates + ", late: {method: nobody.v1.Nothing/Get, rps: 1}}}}\n")
	if got, want := <-told, (framework.MethodUnserved{Key: "server.limit.rate.late.method", Place: place, Method: "nobody.v1.Nothing/Get"}); got != want {
		t.Errorf("told of %+v, want %+v", got, want)
	}
	if got := debugConfig(t, app).Warnings; len(got) != 4 || !slices.ContainsFunc(got, func(s string) bool {
		return strings.HasSuffix(s, ":1: server.limit.rate.typo.method: GET /ping is no method or route of this service, did you mean GET /pong?")
	}) {
		t.Errorf("the warnings are %q", got)
	}
	f.write("server: {auth: {mode: on}}\n")
	within(t, inTheEnd, "the warning of the code's rule alone", func() bool { return len(debugConfig(t, app).Warnings) == 1 })
	if len(told) > 0 {
		t.Errorf("told of %+v once more", <-told)
	}
}
