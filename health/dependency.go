package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Remote is a ready-made check of another service, for
// [Health.AddDependency]. It is no [Func], so that it cannot be added as a
// critical check by accident; [Dependency] is the same for functions of one's
// own.
type Remote struct {
	fn  Func
	err error // what is wrong with it
}

// AddDependency adds a check of another service: [Health.Add] with the option
// [Dependency]. It errs on a Remote that cannot work as well.
func (h *Health) AddDependency(name string, r Remote, opts ...CheckOption) error {
	if r.err != nil {
		return fmt.Errorf("add health check %q: %w", name, r.err)
	}
	return h.Add(name, r.fn, append([]CheckOption{Dependency()}, opts...)...)
}

// GRPC asks grpc.health.v1 of another server about a service by its full name,
// or about the whole server for "". It fails where the server does not answer,
// says anything but SERVING, does not know the service, or has no health
// service.
func GRPC(conn grpc.ClientConnInterface, service string) Remote {
	if conn == nil {
		return Remote{err: errors.New("the gRPC connection is nil")}
	}
	where := "the server"
	if c, ok := conn.(interface{ Target() string }); ok {
		where = c.Target()
	}
	whole := "ask " + where + " for its health"
	if service != "" {
		whole = fmt.Sprintf("ask %s for the health of %q", where, service)
	}
	client := healthpb.NewHealthClient(conn)
	return Remote{fn: func(ctx context.Context) error {
		resp, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		switch {
		case status.Code(err) == codes.Unimplemented:
			return fmt.Errorf("%s: it has no service grpc.health.v1.Health: %w", whole, err)
		case err != nil:
			return fmt.Errorf("%s: %w", whole, err)
		case resp.GetStatus() != healthpb.HealthCheckResponse_SERVING:
			return fmt.Errorf("%s: it says %v", whole, resp.GetStatus())
		}
		return nil
	}}
}

// Bounds of what is read of the answer to an HTTP check.
const (
	shownBody   = 200     // goes into the error
	drainedBody = 4 << 10 // the connection can be used again when the body was read
)

// HTTP gets an address, which has to answer with a status of 2xx; redirects are
// followed as client does. The errors do not repeat the query or the user of
// the address.
func HTTP(client *http.Client, address string) Remote {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return Remote{err: fmt.Errorf("parse the address to get: %w", errors.Unwrap(err))} // without the address
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return Remote{err: errors.New("the address to get is not of the form http://host/path")}
	case client == nil:
		return Remote{err: errors.New("the HTTP client is nil")}
	}
	what := "get " + u.Scheme + "://" + u.Host + u.EscapedPath()
	return Remote{fn: func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		resp, err := client.Do(req)
		if err != nil {
			if inner, ok := errors.AsType[*url.Error](err); ok {
				err = inner.Err
			}
			return fmt.Errorf("%s: %w", what, err)
		}
		defer func() { _ = resp.Body.Close() }()
		body := bufio.NewReader(io.LimitReader(resp.Body, drainedBody))
		defer func() { _, _ = io.Copy(io.Discard, body) }()
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("%s: %s%s", what, resp.Status, firstWords(body))
		}
		return nil
	}}
}

// firstWords is the beginning of a body for an error.
func firstWords(body io.Reader) string {
	b := make([]byte, shownBody)
	n, _ := io.ReadFull(body, b)
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(": %q", b[:n])
}
