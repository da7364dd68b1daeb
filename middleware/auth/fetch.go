package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	// fetchTimeout is the most that reading a URL may take.
	fetchTimeout = 5 * time.Second
	maxRedirects = 3
	maxHeader    = 64 << 10
)

// fetcher reads keys from URLs.
type fetcher struct{ transport http.RoundTripper }

func newFetcher(t http.RoundTripper) *fetcher {
	if t == nil {
		t = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
			MaxIdleConns: 1, IdleConnTimeout: fetchTimeout, MaxResponseHeaderBytes: maxHeader,
		}
	}
	return &fetcher{t}
}

// fetch gets the issuer's keys. It errs without the query of a URL, which may be
// nobody's business.
func (f *fetcher) fetch(ctx context.Context, i *Issuer) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, i.Keys, nil)
	if err != nil {
		return nil, errors.New("fetch keys: it is not a URL")
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	c := http.Client{Transport: f.transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("there are too many redirects")
		}
		return i.checkScheme(r.URL)
	}}
	response, err := c.Do(request)
	if err != nil {
		if full, ok := errors.AsType[*url.Error](err); ok {
			err = full.Err
		}
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch keys: the answer is %s", response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxKeys+1))
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	return data, nil // parseKeys minds the size
}

// close gives up the connection that may be kept.
func (f *fetcher) close() {
	if t, ok := f.transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// readFile reads at most a byte more than keys may have.
func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(file, MaxKeys+1))
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	return data, nil
}
