package client_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
)

// chat exchanges messages until the stream ends, and returns how it has ended.
func chat(ctx context.Context, conn *grpc.ClientConn) error {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, methodChat)
	for err == nil {
		_ = s.SendMsg(wrapperspb.String("x")) // RecvMsg says how the stream has ended
		if err = s.RecvMsg(new(wrapperspb.StringValue)); err == nil {
			pause(ctx, 10*time.Millisecond)
		}
	}
	return err
}

// untilDeadline runs n streams side by side, each for as long as it is given, and
// reports those that ended otherwise.
func untilDeadline(t *testing.T, n int, d time.Duration, run func(context.Context) error) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			if err := run(ctx); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("a stream ended with %v", err)
			}
		})
	}
	wg.Wait()
}

// TestStreamsUntilTheirDeadline: that the time of a stream is over which was
// answered is no failure of anybody; that it was not answered is one.
func TestStreamsUntilTheirDeadline(t *testing.T) {
	wait := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	tests := map[string]struct {
		handle func(context.Context, string) error // of one of three instances
		run    func(context.Context, *grpc.ClientConn) error
		failed bool
	}{
		"messages": {nil, chat, false},
		"header only": {func(ctx context.Context, method string) error {
			if err := grpc.SendHeader(ctx, metadata.MD{}); err != nil {
				return err
			}
			return wait(ctx, method)
		}, watched, false},
		"a callee further on gives up first": {func(ctx context.Context, _ string) error {
			if err := grpc.SendHeader(ctx, metadata.MD{}); err != nil {
				return err
			}
			due, _ := ctx.Deadline()
			pause(ctx, time.Until(due)-10*time.Millisecond)
			return context.DeadlineExceeded
		}, watched, false},
		"no answer": {wait, watched, true},
		"no answer but the status": {func(ctx context.Context, _ string) error {
			due, _ := ctx.Deadline()
			pause(ctx, time.Until(due)-10*time.Millisecond)
			return context.DeadlineExceeded
		}, watched, true},
		"a timeout of the handler's own": {func(ctx context.Context, _ string) error {
			if err := grpc.SendHeader(ctx, metadata.MD{}); err != nil {
				return err
			}
			pause(ctx, 100*time.Millisecond)
			return context.DeadlineExceeded
		}, watched, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
				return client.Settings{Balancer: balancer.NameRoundRobin, Breaker: breaker.Config{Policy: breaker.PolicyClassic}}
			}))
			for _, id := range []string{"a", "b", "c"} {
				w.start(t, id, nil)
			}
			conn := w.conn(t)
			connected(t, conn, 3)
			w.failAll(func(ctx context.Context, method string) error {
				if tt.handle == nil || method != methodWatch && method != methodChat {
					return nil
				}
				return tt.handle(ctx, method)
			})
			untilDeadline(t, 60, 300*time.Millisecond, func(ctx context.Context) error { return tt.run(ctx, conn) })
			var err error
			for range 50 { // the last streams are judged a moment after they have ended
				if _, err = call(t.Context(), conn, methodPut); err != nil {
					break
				}
				pause(t.Context(), time.Millisecond)
			}
			if held := err != nil; held != tt.failed {
				t.Errorf("after the streams a call ends with %v", err)
			}
		})
	}
}

func watched(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := watch(ctx, conn)
	return err
}

// TestStreamsUntilTheirDeadlineEjectNobody: where one instance has all of them.
func TestStreamsUntilTheirDeadlineEjectNobody(t *testing.T) {
	w := newWorld(t, using(balancer.NameConsistentHash))
	for _, id := range []string{"a", "b", "c"} {
		w.start(t, id, nil)
	}
	conn := w.conn(t)
	connected(t, conn, 3)
	for range 100 { // the others are known to be well
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		untilDeadline(t, 1, 50*time.Millisecond, func(ctx context.Context) error {
			return chat(client.WithHashKey(ctx, "account"), conn)
		})
	}
	if out := recorded[client.InstanceEjected](w.events); len(out) > 0 {
		t.Errorf("ejected for streams that worked as long as they were given: %+v", out)
	}
	if failed := recorded[client.CallFailed](w.events); len(failed) > 0 {
		t.Errorf("%d streams that worked as long as they were given are told as failed, one as %+v", len(failed), failed[0])
	}
}

// TestTimeoutIsNotForStreams: what is chosen for calls would cut every stream off.
func TestTimeoutIsNotForStreams(t *testing.T) {
	tests := map[string]struct {
		settings client.Settings
		want     codes.Code // of a stream that lasts a little longer than the settings' timeout
	}{
		"for calls":            {client.Settings{Timeout: 50 * time.Millisecond}, codes.Canceled},
		"for streams":          {client.Settings{StreamTimeout: 50 * time.Millisecond}, codes.DeadlineExceeded},
		"for both":             {client.Settings{Timeout: time.Hour, StreamTimeout: 50 * time.Millisecond}, codes.DeadlineExceeded},
		"for streams, no time": {client.Settings{Timeout: 50 * time.Millisecond, StreamTimeout: -1}, codes.Canceled},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, client.WithSettings(func(_, method string) client.Settings {
				if method == "Chat" {
					return tt.settings
				}
				return client.Settings{}
			}))
			w.start(t, "a", nil)
			conn := w.conn(t)
			connected(t, conn, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			defer time.AfterFunc(300*time.Millisecond, cancel).Stop()
			if err := chat(ctx, conn); status.Code(err) != tt.want {
				t.Errorf("the stream ended with %v, want %v", err, tt.want)
			}
		})
	}
}

// TestStreamsReturnAnInstance: one that is well again gets its streams back, however
// long each of them lasts.
func TestStreamsReturnAnInstance(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{
			Balancer: balancer.NameRoundRobin, Breaker: breaker.Config{Policy: breaker.PolicyOff},
			Ejection: outlier.Config{Base: 20 * time.Millisecond, Max: 40 * time.Millisecond},
		}
	}))
	sick := w.start(t, "sick", nil)
	w.start(t, "b", nil)
	w.start(t, "c", nil)
	conn := w.conn(t)
	connected(t, conn, 3)
	sick.fail(reply(codes.Internal))
	eventually(t, "the instance is ejected", func() bool {
		_, _ = call(t.Context(), conn, methodPut)
		return len(recorded[client.InstanceEjected](w.events)) > 0
	})
	sick.fail(nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	eventually(t, "the instance is back", func() bool {
		wg.Go(func() {
			if err := chat(ctx, conn); status.Code(err) != codes.Canceled {
				t.Errorf("a stream ended with %v", err)
			}
		})
		pause(ctx, 10*time.Millisecond)
		return len(recorded[client.InstanceReturned](w.events)) > 0
	})
}
