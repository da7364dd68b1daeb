package framework

import (
	"errors"
	"strings"
	"time"

	"plinth.internal/config"
	"plinth.internal/server"
)

type httpSettings struct {
	Addr         string        `yaml:"addr" doc:"address for HTTP, empty for none; that of gRPC for one port for both"`
	MaxBody      int64         `yaml:"max_body" doc:"largest body of a request, in bytes; a larger one is answered with 413; 0 for no limit"`
	ReadTimeout  time.Duration `yaml:"read_timeout" doc:"how long a body may keep its reader waiting, and a second more for every 4 KiB; 0 for no limit"`
	WriteTimeout time.Duration `yaml:"write_timeout" doc:"how long a caller may take nothing of a response; 0 for no limit"`
	IdleTimeout  time.Duration `yaml:"idle_timeout" doc:"how long a connection is kept without a request"`
	GRPCWeb      bool          `yaml:"grpc_web" doc:"answer calls of gRPC-Web, the form of gRPC for browsers"`
	CORS         corsSettings  `yaml:"cors"`
}

type corsSettings struct {
	Origins     []string      `yaml:"origins" doc:"origins whose pages may call, https://shop.example.com or with one *; * for all; off while empty"`
	Methods     []string      `yaml:"methods" doc:"verbs that they may use; GET, HEAD, POST, PUT, PATCH and DELETE unless set"`
	Headers     []string      `yaml:"headers" doc:"headers that they may send; those of gRPC-Web, REST, traces and deadlines unless set, * for all"`
	MaxAge      time.Duration `yaml:"max_age" doc:"how long a browser may keep the answer to its question"`
	Credentials bool          `yaml:"credentials" doc:"let pages send cookies and certificates; not with origins *"`
}

// DefaultCORSMaxAge is how long a browser may keep what it was told about CORS.
const DefaultCORSMaxAge = 10 * time.Minute

func defaultHTTP() httpSettings {
	return httpSettings{
		MaxBody: server.DefaultMaxBody, ReadTimeout: server.DefaultReadTimeout, WriteTimeout: server.DefaultWriteTimeout,
		IdleTimeout: server.IdleTimeout, CORS: corsSettings{MaxAge: DefaultCORSMaxAge},
	}
}

// Validate checks what the types cannot.
func (h *httpSettings) Validate() error {
	var errs []error
	below := func(bad bool, key, text string) {
		if bad {
			errs = append(errs, config.Invalid(key, "%s", text))
		}
	}
	below(h.MaxBody < 0, "max_body", "is below zero")
	below(h.ReadTimeout < 0, "read_timeout", "is below zero")
	below(h.WriteTimeout < 0, "write_timeout", "is below zero")
	below(h.IdleTimeout <= 0, "idle_timeout", "is not above zero")
	if cors := h.CORS.server(); cors != nil {
		if err := cors.Validate(); err != nil {
			for line := range strings.Lines(err.Error()) { // joined errors, each "KEY: what is wrong"
				key, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
				errs = append(errs, config.Invalid(strings.TrimPrefix(key, "server.http."), "%s", text))
			}
		}
	}
	return errors.Join(errs...)
}

// server is nil where no origin is named.
func (c *corsSettings) server() *server.CORS {
	if len(c.Origins) == 0 {
		return nil
	}
	return &server.CORS{Origins: c.Origins, Methods: c.Methods, Headers: c.Headers, MaxAge: c.MaxAge, Credentials: c.Credentials}
}

func (h *httpSettings) server() server.HTTPConfig {
	return server.HTTPConfig{
		MaxBody: orNone(h.MaxBody), ReadTimeout: orNone(h.ReadTimeout), WriteTimeout: orNone(h.WriteTimeout),
		IdleTimeout: h.IdleTimeout, GRPCWeb: h.GRPCWeb, CORS: h.CORS.server(),
	}
}

// orNone writes no limit as the server does: its zero is the default.
func orNone[T int64 | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}
