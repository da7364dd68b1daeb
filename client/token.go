package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
)

const (
	// MaxToken is the most bytes of a token that a file may hold.
	MaxToken = 16 << 10
	// tokenPoll is how long a file's token is used before the file is read again.
	tokenPoll = time.Second

	headerAuthorization = "authorization"
	schemeBearer        = "Bearer "
)

// WithToken sets where bearer tokens for calls come from, over gRPC and HTTP; the
// default is [Settings].TokenFile, which comes first where both are there. The
// function is asked once for each call, with all its attempts, and may wait until
// ctx ends, so it should keep the token until it is about to expire. "" sends
// none; an error fails the call with UNAUTHENTICATED.
//
// A call that has an authorization header keeps it, and net/rpc has no headers. A
// token is sent over TLS only: where [Settings].TLS does not say tls or mtls the
// call fails, unless it says insecure, which is told once ([TokenExposed]). Who
// called this process is not told to the services that it calls: a handler that
// wants to pass its caller's token on must do so itself.
func WithToken(f func(ctx context.Context, service string) (token string, err error)) Option {
	return func(o *options) { o.token = f }
}

// authorize puts the token for the service into the call, if there is one.
func (s *service) authorize(ctx context.Context, call *middleware.Call, set *Settings) error {
	source := s.client.options.token
	if source == nil && set.TokenFile == "" || call.Kind == middleware.ClientNetRPC || call.Header(headerAuthorization) != "" {
		return nil
	}
	var header string
	var err error
	if set.TokenFile != "" {
		header, err = s.token.header(s, set.TokenFile, time.Now())
	} else if header, err = source(ctx, s.name); header != "" {
		header = schemeBearer + header
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return middleware.Status(ctx.Err()).Err()
	case err != nil:
		return status.Errorf(codes.Unauthenticated, "get a token for %s: %v", s.name, err)
	case header == "":
		return nil
	case set.TLS.protects():
	case set.TLS != nil && set.TLS.Mode == TLSInsecure:
		if s.exposed.CompareAndSwap(false, true) {
			s.client.options.events(TokenExposed{Service: s.name})
		}
	default:
		return status.Errorf(codes.Unauthenticated, "call %s: its token is sent over TLS only: set clients.%s.tls.mode, or clients.default.tls.mode (client.Settings.TLS in code), "+
			"to tls, mtls or, where others may see it, insecure", s.name, s.name)
	}
	call.SetHeader(headerAuthorization, header)
	return nil
}

// checkToken holds that somebody has said how a token is protected.
func (s Settings) checkToken() error {
	if s.TokenFile != "" && (s.TLS == nil || s.TLS.Mode == "") {
		return fmt.Errorf("set TokenFile to %q without TLS.Mode: a token is sent over TLS only; say tls, mtls or, where others may see it, insecure", s.TokenFile)
	}
	return nil
}

// tokenFile is the token that a file holds. What it held last stays in use while it
// cannot be read.
type tokenFile struct {
	mu   sync.Mutex
	name string
	last string    // the header that it makes, "" for none yet
	read time.Time // when it was read
	err  error     // of that
}

// header is "Bearer" and the token.
func (f *tokenFile) header(s *service, name string, now time.Time) (string, error) {
	f.mu.Lock()
	if f.name != name {
		f.name, f.last, f.read, f.err = name, "", time.Time{}, nil
	}
	var news error
	if f.read.IsZero() || now.Sub(f.read) >= tokenPoll {
		token, err := ReadToken(name)
		if err == nil {
			f.last = schemeBearer + token
		} else if f.err == nil {
			news = err
		}
		f.read, f.err = now, err
	}
	last, err := f.last, f.err
	f.mu.Unlock()
	if news != nil {
		s.client.options.events(TokenRejected{Service: s.name, File: name, Err: news})
	}
	if last == "" {
		return "", err
	}
	return last, nil
}

// ReadToken reads the token that a file holds, without white space around it. It
// errs where the file holds nothing that could be one, and never shows any of it.
func ReadToken(name string) (string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	switch {
	case token == "":
		return "", errors.New("read token: " + name + " is empty")
	case len(token) > MaxToken:
		return "", fmt.Errorf("read token: %s has %d bytes, must have at most %d", name, len(token), MaxToken)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New("read token: " + name + " holds something else than one token")
	}
	return token, nil
}
