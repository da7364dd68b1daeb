package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
	"plinth.internal/registry"
)

// served is the context of a call that is served, of which so much time is left.
func served(ctx context.Context, left time.Duration, handle func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	_, err := middleware.UnaryServer(deadline.Server())(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/shop.v1.Orders/Get"},
		func(ctx context.Context, _ any) (any, error) { return nil, handle(ctx) })
	return err
}

var givenTime = regexp.MustCompile(`(?:within|after) (\S+) `)

// about is an error with the time that is wanted, where its own is about that. Some of it
// goes by between a deadline's making and the call's start: a call is given less of
// somebody else's deadline, and a little more than its own.
func about(got, want string) string {
	g, w := givenTime.FindStringSubmatch(got+" "), givenTime.FindStringSubmatch(want+" ")
	if g == nil || w == nil {
		return got
	}
	given, err := time.ParseDuration(g[1])
	wanted, errWanted := time.ParseDuration(w[1])
	more := given - wanted
	if strings.Contains(got, "deadline of the call") || strings.Contains(got, "caller's deadline") {
		more = -more
	}
	if err != nil || errWanted != nil || more < 0 || more > 25*time.Millisecond {
		return got
	}
	return strings.Replace(got, g[0], w[0], 1)
}

// TestDeadlineErrors: they say what was called, where, how long it was given, and
// whose limit that was.
func TestDeadlineErrors(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	in := func(d time.Duration, f func(context.Context, *grpc.ClientConn) error) func(context.Context, *grpc.ClientConn) error {
		return func(ctx context.Context, conn *grpc.ClientConn) error {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			return f(ctx, conn)
		}
	}
	does := func(method string) func(context.Context, *grpc.ClientConn) error {
		return func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := call(ctx, conn, method)
			return err
		}
	}
	tests := map[string]struct {
		settings client.Settings
		handle   func(context.Context, string) error
		run      func(context.Context, *grpc.ClientConn) error
		want     string
	}{
		"the timeout": {
			client.Settings{Timeout: 60 * time.Millisecond}, hang, does(methodPut),
			"echo/Put on a: no answer within 60ms (clients.echo.timeout, client.Settings.Timeout in code)",
		},
		"the default": {
			client.Settings{}, hang, does(methodPut),
			"echo/Put on a: no answer within 3s (the default of clients.echo.timeout, client.Settings.Timeout in code)",
		},
		"the caller's": {
			client.Settings{}, hang, in(80*time.Millisecond, does(methodPut)),
			"echo/Put on a: no answer within 80ms (the caller's deadline)",
		},
		"that of the call that is served": {
			client.Settings{}, hang,
			func(ctx context.Context, conn *grpc.ClientConn) error {
				var err error
				_ = served(ctx, 100*time.Millisecond, func(ctx context.Context) error {
					_, err = call(ctx, conn, methodPut)
					return err
				})
				return err
			},
			"echo/Put on a: no answer within 95ms (the deadline of the call that is served here)",
		},
		"that of an attempt": {
			client.Settings{AttemptTimeout: 40 * time.Millisecond, Retry: retry.Policy{MaxAttempts: 2}}, hang, does(methodGet),
			"echo/Get on a: no answer within 40ms (clients.echo.attempt_timeout, client.Settings.AttemptTimeout in code), in 2 attempts",
		},
		"a stream that was answered": {
			client.Settings{StreamTimeout: 70 * time.Millisecond}, nil, chat,
			"echo/Chat on a: the time of the stream was over after 70ms (clients.echo.methods.Chat.timeout, client.Settings.StreamTimeout in code)",
		},
		"a stream that was not": {
			client.Settings{}, hang, in(70*time.Millisecond, watched),
			"echo/Watch on a: no answer within 70ms (the caller's deadline)",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.settings.Balancer = balancer.NameRoundRobin
			w := newWorld(t, client.WithSettings(func(string, string) client.Settings { return tt.settings }))
			e := w.start(t, "a", nil)
			conn := w.conn(t)
			connected(t, conn, 1)
			e.fail(tt.handle)
			err := tt.run(t.Context(), conn)
			if status.Code(err) != codes.DeadlineExceeded || middleware.Code(err) != codes.DeadlineExceeded {
				t.Fatalf("the error is %v", err)
			}
			if got := status.Convert(err).Message(); about(got, tt.want) != tt.want || err.Error() != got {
				t.Errorf("the error says\n%s, want\n%s; its text is\n%s", got, tt.want, err)
			}
		})
	}
}

// TestDeadlineErrorWithoutAnInstance: what kept the call from one is said as well.
func TestDeadlineErrorWithoutAnInstance(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings { return client.Settings{Timeout: 60 * time.Millisecond} }))
	w.announce(t, registry.Instance{ID: "mute", Endpoints: map[string]string{"grpc": lis.Addr().String()}})
	_, err = call(t.Context(), w.conn(t), methodGet)
	if want := "echo/Get: nobody could be called within 60ms (clients.echo.timeout"; status.Code(err) != codes.DeadlineExceeded || !strings.HasPrefix(about(err.Error(), want), want) {
		t.Errorf("the error is %v", err)
	}
}

// TestDeadlineErrorOfTheServer: what the server says by itself stays as it is.
func TestDeadlineErrorOfTheServer(t *testing.T) {
	w := newWorld(t)
	e := w.start(t, "a", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	e.fail(reply(codes.DeadlineExceeded))
	for _, run := range []func(context.Context, *grpc.ClientConn) error{chat, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := call(ctx, conn, methodPut)
		return err
	}} {
		if err := run(t.Context(), conn); status.Code(err) != codes.DeadlineExceeded || status.Convert(err).Message() != "as the test wants it" {
			t.Errorf("the error is %v", err)
		}
	}
}

// TestDeadlineErrorOverHTTP: it is still what those ask for who know net/http.
func TestDeadlineErrorOverHTTP(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Timeout: 50 * time.Millisecond, Retry: retry.Policy{MaxAttempts: 1}}
	}))
	w.web(t, "a", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	_, _, err := text(t, w.client.HTTP("echo"), http.MethodGet, nil)
	timeout, ok := errors.AsType[*url.Error](err)
	if !ok || !timeout.Timeout() || !errors.Is(err, context.DeadlineExceeded) || middleware.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("the error is %v", err)
	}
	if want := "echo/GET on a: no answer within 50ms (clients.echo.timeout, client.Settings.Timeout in code)"; !strings.Contains(about(err.Error(), want), want) {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

// TestErrorsOfEndedConnections: a call that ends with its connection says whose it
// was, and that a stop has ended it.
func TestErrorsOfEndedConnections(t *testing.T) {
	tests := map[string]struct {
		stop func(*echo)
		want string
	}{
		"stopped": {func(e *echo) {
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				e.server.GracefulStop()
			}()
			time.AfterFunc(100*time.Millisecond, e.server.Stop) // as an app does when the time for its drain is over
			<-stopped
		}, "on a: the instance was stopping and has ended what was still running, see server.drain.timeout there: "},
		"died": {func(e *echo) { e.server.Stop() }, "on a: the connection was lost before the end of the call: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			e := w.start(t, "a", nil)
			conn := w.conn(t)
			connected(t, conn, 1)
			s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, methodChat)
			if err != nil {
				t.Fatal(err)
			}
			var got wrapperspb.StringValue
			if err := errors.Join(s.SendMsg(wrapperspb.String("x")), s.RecvMsg(&got)); err != nil {
				t.Fatal(err)
			}
			unary := make(chan error, 1)
			begun := make(chan struct{})
			e.fail(func(ctx context.Context, _ string) error {
				close(begun)
				<-ctx.Done()
				return ctx.Err()
			})
			go func() {
				_, err := call(t.Context(), conn, methodPut)
				unary <- err
			}()
			<-begun
			tt.stop(e)
			for what, err := range map[string]error{"echo/Chat ": s.RecvMsg(&got), "echo/Put ": <-unary} {
				if status.Code(err) != codes.Unavailable || errors.Is(err, io.EOF) || !strings.HasPrefix(err.Error(), what+tt.want) {
					t.Errorf("the error is %v, want %s%s", err, what, tt.want)
				}
			}
		})
	}
}
