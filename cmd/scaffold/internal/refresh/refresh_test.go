package main

import "testing"

// TestFresh fails when something in templates/ does not follow any more from what it is made of.
func TestFresh(t *testing.T) {
	changed, err := refresh(t.Context(), "../../../..", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range changed {
		t.Errorf("%s is out of date: go run ./cmd/scaffold/internal/refresh", name)
	}
}
