package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rs/cors"
)

// CORS says which pages of other origins a browser lets call the HTTP listener. A
// preflight request is answered before the middlewares; what other origins send
// all the same is answered as ever, but their browser does not show it to them.
type CORS struct {
	// Origins are those of the pages, "https://shop.example.com"; one * in each
	// stands for anything, and "*" alone for all origins. Required.
	Origins []string
	// Methods are the verbs allowed; none means GET, HEAD, POST, PUT, PATCH and
	// DELETE.
	Methods []string
	// Headers are those of requests, beside those that need no permission; none
	// means what gRPC-Web, REST, traces and deadlines need. "*" is all.
	Headers []string
	// MaxAge is how long a browser may keep the answer; 0 means its default, 5 s.
	MaxAge time.Duration
	// Credentials lets pages send cookies and certificates. It needs origins by
	// name: "*" with it would let any page act for its visitor.
	Credentials bool
}

var (
	corsMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	corsHeaders = []string{
		"Accept", "Authorization", "Content-Type", "Grpc-Timeout", "Traceparent", "Tracestate", "X-Grpc-Web", "X-Requested-With",
		"X-Trace-Id", "X-User-Agent",
	}
	corsExposed = []string{"Grpc-Message", "Grpc-Status", "Grpc-Status-Details-Bin", "Retry-After", "X-Trace-Id"}
)

// Validate checks the fields. Errors name the keys of the configuration.
func (c *CORS) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("server.http.cors."+key+": "+format, args...))
	}
	if len(c.Origins) == 0 {
		bad("origins", "is empty; name the origins of the pages that may call, such as https://shop.example.com")
	}
	for _, o := range c.Origins {
		if o == "*" {
			if c.Credentials {
				bad("credentials", "cannot be true with origins *: any page could act for its visitor; name the origins")
			}
			continue
		}
		if !isOrigin(o) {
			bad("origins", "has %q, which is no origin; want scheme://host or scheme://host:port with at most one *", o)
		}
	}
	for _, m := range c.Methods {
		if m == "" || m != strings.ToUpper(m) || strings.ContainsAny(m, " ,*") {
			bad("methods", "has %q, which is no verb; want one in capitals such as GET", m)
		}
	}
	if c.MaxAge < 0 {
		bad("max_age", "is below zero")
	}
	return errors.Join(errs...)
}

// isOrigin takes a * for a part of a name, or for a port.
func isOrigin(s string) bool {
	if strings.Count(s, "*") > 1 {
		return false
	}
	s = strings.Replace(s, "*", "1", 1)
	u, err := url.Parse(s)
	_, host, _ := strings.Cut(s, "://")
	// A ? or # with nothing behind it is in no field of u.
	return err == nil && u.Scheme != "" && u.Host != "" && !strings.ContainsAny(host, "/?#@")
}

// WithDefaults fills in the verbs and the headers where there are none.
func (c *CORS) WithDefaults() CORS {
	out := *c
	if len(out.Methods) == 0 {
		out.Methods = slices.Clone(corsMethods)
	}
	if len(out.Headers) == 0 {
		out.Headers = slices.Clone(corsHeaders)
	}
	return out
}

func (c *CORS) handler(next http.Handler) http.Handler {
	filled := c.WithDefaults()
	return cors.New(cors.Options{
		AllowedOrigins: filled.Origins, AllowedMethods: filled.Methods, AllowedHeaders: filled.Headers, ExposedHeaders: corsExposed,
		MaxAge: int(filled.MaxAge / time.Second), AllowCredentials: filled.Credentials,
	}).Handler(next)
}
