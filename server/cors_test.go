package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"plinth.internal/health"
	"plinth.internal/server"
)

func TestCORSErrors(t *testing.T) {
	for _, tc := range []struct {
		cors server.CORS
		want string
	}{
		{server.CORS{}, "server.http.cors.origins: is empty"},
		{server.CORS{Origins: []string{"shop.example.com"}}, `server.http.cors.origins: has "shop.example.com", which is no origin`},
		{server.CORS{Origins: []string{"https://shop.example.com/"}}, "which is no origin"},
		{server.CORS{Origins: []string{"https://*.*.com"}}, "which is no origin"},
		{server.CORS{Origins: []string{"https://shop.example.com?"}}, "which is no origin"},
		{server.CORS{Origins: []string{"https://shop.example.com#"}}, "which is no origin"},
		{server.CORS{Origins: []string{"https://u@shop.example.com"}}, "which is no origin"},
		{server.CORS{Origins: []string{"*"}, Credentials: true}, "server.http.cors.credentials: cannot be true with origins *"},
		{server.CORS{Origins: []string{"*"}, Methods: []string{"get"}}, `server.http.cors.methods: has "get", which is no verb`},
		{server.CORS{Origins: []string{"*"}, MaxAge: -1}, "server.http.cors.max_age: is below zero"},
	} {
		cfg := server.Config{Health: health.New()}
		cfg.HTTP.CORS = &tc.cors
		if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.cors, err, tc.want)
		}
	}
}

func TestCORS(t *testing.T) {
	s := &seen{}
	cfg := loopback()
	cfg.Middleware = s.chain()
	cfg.HTTP.CORS = &server.CORS{Origins: []string{"https://*.example.com"}, MaxAge: time.Minute, Credentials: true}
	_, at := serve(t, cfg, func(s *server.Server) { s.Handle("PUT /x", http.NotFoundHandler()) })
	url := "http://" + at[server.HTTP] + "/x"
	for _, tc := range []struct {
		origin  string
		headers string
		allowed bool
	}{
		{"https://shop.example.com", "x-grpc-web", true},
		{"https://shop.example.com", "x-secret", false},
		{"https://evil.example.org", "", false},
	} {
		header := []string{"Origin", tc.origin, "Access-Control-Request-Method", "PUT"}
		if tc.headers != "" {
			header = append(header, "Access-Control-Request-Headers", tc.headers)
		}
		status, got, _ := request(t, http.MethodOptions, url, "", header...)
		if allowed := got.Get("Access-Control-Allow-Origin") == tc.origin; status != 204 || allowed != tc.allowed {
			t.Errorf("%+v: %d %v", tc, status, got)
		}
		if tc.allowed && (got.Get("Access-Control-Max-Age") != "60" || got.Get("Access-Control-Allow-Credentials") != "true") {
			t.Errorf("%+v: %v", tc, got)
		}
	}
	if calls := s.take(); len(calls) != 0 {
		t.Errorf("questions of browsers are calls: %q", calls)
	}
	_, got, _ := request(t, http.MethodPut, url, "", "Origin", "https://shop.example.com")
	if got.Get("Access-Control-Allow-Origin") != "https://shop.example.com" || !strings.Contains(got.Get("Access-Control-Expose-Headers"), "Grpc-Status") {
		t.Errorf("the call itself: %v", got)
	}
	_, at = serve(t, loopback(), nil)
	if _, got, _ = request(t, http.MethodPut, "http://"+at[server.HTTP], "", "Origin", "https://shop.example.com"); got.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("CORS without being asked for: %v", got)
	}
}
