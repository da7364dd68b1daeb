package framework_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/health"
)

// pointerError panics when it is asked for its text as a nil pointer, which a
// function that returns its own type instead of error makes easily.
type pointerError struct{ text string }

func (e *pointerError) Error() string { return e.text }

// statusPanicsError has a text but no status.
type statusPanicsError struct{}

func (statusPanicsError) Error() string              { return "fine" }
func (statusPanicsError) GRPCStatus() *status.Status { panic("no status") }

// selfPanicsError panics with itself, so that what it panicked with cannot be shown.
type selfPanicsError struct{}

func (e selfPanicsError) Error() string { panic(e) }

// brokenErrors are errors that panic in whoever asks them something.
var brokenErrors = map[string]error{"nil pointer": (*pointerError)(nil), "status": statusPanicsError{}, "itself": selfPanicsError{}}

// TestBrokenErrors: a handler whose error cannot even be looked at fails its own call
// and no other, over each transport.
func TestBrokenErrors(t *testing.T) {
	var r recorder
	var logs lockedBuffer
	handle := func(_ context.Context, in string) (string, error) {
		how, what, _ := strings.Cut(in, " ")
		switch how {
		case "panic":
			panic(brokenErrors[what])
		case "return":
			return "", brokenErrors[what]
		}
		return in, nil
	}
	app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
		s.RegisterService(&echoDesc, echo{say: handle})
		s.Handle("POST /panic/{what}", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			panic(brokenErrors[r.PathValue("what")])
		}))
		return nil
	}, r.option(), framework.WithLogOutput(&logs))
	ways := map[string]func(how, what string) error{
		"unary": func(how, what string) error {
			_, err := say(t.Context(), app.Conn(), how+" "+what)
			return err
		},
		"stream": func(how, what string) error {
			cs, err := app.Conn().NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/test.v1.Echo/Repeat")
			if err != nil {
				return err
			}
			if err := errors.Join(cs.SendMsg(wrapperspb.String(how+" "+what)), cs.CloseSend()); err != nil {
				return err
			}
			return cs.RecvMsg(new(wrapperspb.StringValue))
		},
		"http": func(_, what string) error {
			resp, err := app.HTTP().Post("http://echo/panic/"+what, "text/plain", http.NoBody) // not repeated, as a GET would be
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusInternalServerError || !strings.Contains(string(body), resp.Header.Get("X-Trace-Id")) {
				t.Errorf("the caller is told %d %s", resp.StatusCode, body)
			}
			return errors.Join(status.Error(codes.Internal, string(body)), err)
		},
	}
	for way, call := range ways {
		for what := range brokenErrors {
			for _, how := range []string{"panic", "return"} {
				before := count[framework.HandlerPanicked](&r)
				err := call(how, what)
				if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "trace ID") {
					t.Errorf("%s, %s %s: err = %v, want INTERNAL with the trace ID", way, how, what, err)
				}
				if told := count[framework.HandlerPanicked](&r) - before; told != 1 {
					t.Errorf("%s, %s %s: told %d times", way, how, what, told)
				}
			}
		}
	}
	if got, err := say(t.Context(), app.Conn(), "good"); err != nil || got != "good" {
		t.Errorf("after all: %q, %v", got, err)
	}
	if !strings.Contains(logs.String(), "a nil *framework_test.pointerError was given as an error") {
		t.Error("the log does not say what is wrong with the error")
	}
}

// TestBrokenErrorsBeside: nor does such an error of anything else that a service gives
// end the process.
func TestBrokenErrorsBeside(t *testing.T) {
	for name, broken := range brokenErrors {
		if name == "status" {
			continue // nobody asks for it here
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
					s.RegisterService(&echoDesc, plainEcho)
					s.Check("check", func(context.Context) error { return broken }, health.NotCritical())
					s.Go("returns", func(context.Context) error { return broken }, framework.Restart(framework.RestartNever))
					s.Go("panics", func(context.Context) error { panic(broken) }, framework.Restart(framework.RestartNever))
					s.Job("job", time.Hour, func(context.Context) error { return broken }, framework.AtOnce())
					s.OnStop("step", func(context.Context) error { return broken })
					return nil
				}, r.option())
				advance(time.Second)
				told := map[string]error{}
				r.mu.Lock()
				for _, e := range r.events {
					switch e := e.(type) {
					case framework.GoroutineFailed:
						told[e.Name] = e.Err
					case framework.JobRan:
						told[e.Job] = e.Err
					}
				}
				r.mu.Unlock()
				for _, c := range app.Health().Checks {
					told[c.Name] = errors.New(c.Error)
				}
				told["step"] = app.Stop()
				for _, what := range []string{"check", "returns", "panics", "job", "step"} {
					if err := told[what]; err == nil || !strings.Contains(err.Error(), "framework_test.") {
						t.Errorf("%s: told %v, which does not name the error's type", what, err)
					}
				}
			})
		})
	}
}

// TestBrokenErrorOfSetup: the start fails with an error that can be shown.
func TestBrokenErrorOfSetup(t *testing.T) {
	for name, broken := range brokenErrors {
		app, err := framework.New("echo", func(context.Context, *framework.Service) error { return broken },
			framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()))
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "set up echo: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
