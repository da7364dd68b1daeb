package server

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzOrigins: what is taken for an origin has nothing beside a scheme and a host,
// lets in the pages that it names, and no others.
func FuzzOrigins(f *testing.F) {
	for _, s := range []string{
		"https://shop.example.com", "https://*.example.com", "http://localhost:*", "http://[::1]:80", "*", "", "https://", "https://u:p@h", "https://h/",
		"https://h?", "https://h#", "null", "HTTPS://SHOP", "https://*", "*://h", "https://a b", "file://x", "https://h:99999",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, origin string) {
		c := &CORS{Origins: []string{origin}, Credentials: true}
		if c.Validate() != nil {
			return
		}
		page := strings.Replace(origin, "*", "1", 1)
		u, err := url.Parse(page)
		if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || strings.ContainsAny(page, "?#@") || strings.Contains(page[strings.Index(page, "://")+3:], "/") {
			t.Fatalf("%q is taken for an origin", origin)
		}
		handler := c.handler(http.NotFoundHandler())
		allowed := func(origin string) bool {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			r.Header.Set("Origin", origin)
			handler.ServeHTTP(w, r)
			return w.Header().Get("Access-Control-Allow-Origin") != ""
		}
		if !allowed(page) {
			t.Errorf("%q does not let in %q", origin, page)
		}
		if other := "other" + page; !strings.HasPrefix(origin, "*") && allowed(other) {
			t.Errorf("%q lets in %q", origin, other)
		}
	})
}
