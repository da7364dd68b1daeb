package server

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
)

// handled is a pattern and the line of the service that has given it.
type handled struct{ pattern, place string }

// explain says why http.ServeMux does not take a pattern. In a conflict it names
// the line of the service that has given the other pattern: the mux would name
// the one in this package that it was called from.
func (w *web) explain(pattern string, err error) error {
	for _, other := range w.handled {
		mux := http.NewServeMux()
		if muxHandle(mux, other.pattern, http.NotFoundHandler()) != nil || muxHandle(mux, pattern, http.NotFoundHandler()) == nil {
			continue
		}
		if _, why, ok := strings.Cut(err.Error(), "):\n"); ok {
			return fmt.Errorf("it conflicts with %q at %s: %s", other.pattern, other.place, why)
		}
		return fmt.Errorf("it conflicts with %q at %s", other.pattern, other.place)
	}
	return err
}

// tryHandle is muxHandle whose error names the pattern.
func tryHandle(mux *http.ServeMux, pattern string, h http.Handler) error {
	if err := muxHandle(mux, pattern, h); err != nil {
		return fmt.Errorf("handle HTTP pattern %q: %w", pattern, err)
	}
	return nil
}

// muxHandle turns the panic of http.ServeMux into an error.
func muxHandle(mux *http.ServeMux, pattern string, h http.Handler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New(strings.TrimSpace(fmt.Sprint(p)))
		}
	}()
	mux.Handle(pattern, h)
	return nil
}

// callerOutside is the line that called into the framework.
func callerOutside() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		if !strings.HasPrefix(frame.Function, "plinth.internal/server.") && !strings.HasPrefix(frame.Function, "plinth.internal/framework.") {
			return fmt.Sprintf("%s:%d", frame.File, frame.Line)
		}
		if !more {
			return "an unknown line"
		}
	}
}
