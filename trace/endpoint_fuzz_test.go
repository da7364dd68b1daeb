package trace

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzEndpoint: what is taken for an endpoint is a URL with a scheme that is known
// and nothing secret before the host; what is not is told without what was.
func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{
		"http://h:4318", "https://h", "grpc://h:4317", "grpcs://h:4317", "h:4317", "://", "ftp://h", "http://u:pwsecret@h", "grpc://u:pwsecret@h:x",
		"http://h/v1?x=y", "http://[::1]:1", "http://\x7f", "http://%zz",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, endpoint string) {
		exporter, err := newExporter(endpoint)
		if err != nil {
			if strings.Contains(endpoint, "u:pwsecret@") && strings.Contains(err.Error(), "pwsecret") && strings.HasPrefix(endpoint, "http://u:") {
				t.Errorf("the password is shown: %v", err)
			}
			return
		}
		if err := exporter.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.User != nil {
			t.Errorf("%q was taken: %v", endpoint, err)
		}
	})
}
