package client

import (
	"fmt"
	"net/url"

	"google.golang.org/grpc/codes"
)

// refused is the error of a request for a URL that does not lead to the service,
// with what to write instead where that is known.
func (t *httpTransport) refused(u *url.URL) error {
	called, hint := u.Scheme+"://"+u.Host, ""
	switch {
	case u.Scheme == "" && u.Host == "":
		called, hint = fmt.Sprintf("%q", u.Path), "; begin the URL with that"
	case u.Scheme == "https" && u.Host == t.service:
		hint = fmt.Sprintf("; write http, whether TLS is used is up to clients.%s.tls.mode", t.service)
	case u.Scheme == "http" && u.Hostname() == t.service:
		hint = "; leave the port out, the registry knows it"
	}
	return &codedError{fmt.Errorf("call %s: this client calls http://%s only%s", called, t.service, hint), codes.InvalidArgument}
}
