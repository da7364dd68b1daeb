package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asAdapter makes the test binary the adapter: the suite's runner starts it.
const asAdapter = "CONFORMANCE_ADAPTER"

func TestMain(m *testing.M) {
	if os.Getenv(asAdapter) != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) //nolint:forbidigo // this is the adapter's main
	}
	goleak.VerifyTestMain(m)
}
