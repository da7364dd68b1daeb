package client_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"plinth.internal/client"
	"plinth.internal/registry/static"
)

func Example() {
	billing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "paid on %s", r.Host)
	}))
	defer billing.Close()

	reg, err := static.Open(map[string][]string{"billing": {"http=" + billing.Listener.Addr().String()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = reg.Close() }()
	calls, err := client.New(reg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = calls.Close() }()

	resp, err := calls.HTTP("billing").Get("http://billing/invoices/7")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Println(resp.StatusCode)
	// Output: 200
}
