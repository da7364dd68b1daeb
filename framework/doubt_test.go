package framework_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

// TestRegistryInDoubt: a service says at once that the registry is away, and not when
// its entry has lapsed.
func TestRegistryInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := frameworktest.New(t)
		app := env.Start("echo", setupEcho(plainEcho))
		env.Registry().SetDown(errors.New("nobody answers"))
		synctest.Wait()
		if doc := app.Health(); doc.Status != framework.HealthDegraded || doc.Registry.State != "registered" || !strings.Contains(doc.Registry.Error, "nobody answers") {
			t.Errorf("without the registry: %s, %+v", doc.Status, doc.Registry)
		}
		if code, _ := ask(t, app, http.MethodGet, "/health/ready", ""); code != http.StatusOK {
			t.Errorf("/health/ready = %d: the service serves on", code)
		}
		env.Registry().SetDown(nil)
		synctest.Wait()
		if doc := app.Health(); doc.Status != framework.HealthOK || doc.Registry.Error != "" {
			t.Errorf("with it again: %s, %+v", doc.Status, doc.Registry)
		}
	})
}
