package health_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"plinth.internal/health"
)

func Example() {
	h := health.New()
	down := true
	err := h.Add("db", func(context.Context) error {
		if down {
			return errors.New("connection refused")
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(h.Check(context.Background())) // the start waits until this is nil
	down = false
	fmt.Println(h.Check(context.Background()))
	h.SetPhase(health.Serving)
	for _, r := range h.Report().Results {
		fmt.Println(r.Name, r.Status, h.Ready())
	}
	// Output:
	// check "db": connection refused
	// <nil>
	// db ok true
}

func ExampleHTTP() {
	h := health.New()
	h.SetPhase(health.Serving)
	// The outage of another service is no reason to take this one out, too.
	err := h.AddDependency("search", health.HTTP(new(http.Client), "http://127.0.0.1:1/ping"))
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(h.Check(context.Background()))
	for _, r := range h.Report().Results {
		fmt.Println(r.Name, r.Status, h.Ready())
	}
	// Output:
	// <nil>
	// search down true
}
