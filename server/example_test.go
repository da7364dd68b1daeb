package server_test

import (
	"context"
	"fmt"
	"net/http"

	"plinth.internal/health"
	"plinth.internal/server"
)

func Example() {
	s, err := server.New(server.Config{
		Service: "hello", Health: health.New(),
		Addrs: map[string]string{server.HTTP: "127.0.0.1:0"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	s.Handle("GET /hello/{name}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello", r.PathValue("name"))
	}))
	ctx := context.Background()
	if err := s.Listen(ctx); err != nil {
		fmt.Println(err)
		return
	}
	s.Serve(func(err error) { fmt.Println(err) })
	resp, err := http.Get("http://" + s.Endpoints()[server.HTTP] + "/hello/world")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	http.DefaultClient.CloseIdleConnections()
	fmt.Println(s.Stop(ctx), s.Close())
	// Output:
	// 200 OK
	// <nil> <nil>
}
