package middleware_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/middleware"
)

type outcomeKey struct{}

// outcome is what a balancer would note of an attempt.
type outcome struct {
	addr    string
	trailer metadata.MD
}

func reported(ctx context.Context) (string, metadata.MD) {
	o, _ := ctx.Value(outcomeKey{}).(*outcome)
	return o.addr, o.trailer
}

// TestReported holds that a call knows of each attempt what the balancer says, and
// that grpc is asked for what the caller asks for and nothing else.
func TestReported(t *testing.T) {
	outcomes := []*outcome{
		{addr: "10.0.0.1:1", trailer: metadata.Pairs("x-end", "first")},
		{}, // nobody was picked
		{addr: "10.0.0.2:1", trailer: metadata.Pairs("x-end", "third")},
	}
	type seen struct{ peer, end string }
	var saw []seen
	attempts := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) (err error) {
			for _, o := range outcomes {
				err = next(context.WithValue(ctx, outcomeKey{}, o), call)
				saw = append(saw, seen{call.Peer(), call.Reply("X-End")})
			}
			return err
		}
	}
	var header metadata.MD
	var asked []grpc.CallOption
	invoke := func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
		asked = append(asked, opts...)
		return nil
	}
	err := middleware.ReportedUnaryClient("echo", reported, attempts)(t.Context(), "/a.B/C", nil, new(wrapperspb.StringValue), nil, invoke, grpc.Header(&header))
	if want := []seen{{"10.0.0.1:1", "first"}, {"10.0.0.1:1", ""}, {"10.0.0.2:1", "third"}}; err != nil || len(saw) != 3 || saw[0] != want[0] || saw[1] != want[1] || saw[2] != want[2] {
		t.Errorf("the attempts are seen as %v, %v; want %v", saw, err, want)
	}
	if len(asked) != 3 || asked[0] != grpc.Header(&header) || asked[1] != asked[0] || asked[2] != asked[0] {
		t.Errorf("grpc is asked for %v", asked)
	}
}

// TestReportedFork holds that a caller is served from a fork as from the call.
func TestReportedFork(t *testing.T) {
	forking := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			fork, ok := call.Fork()
			if !ok {
				t.Fatal("the call cannot be forked")
			}
			_ = next(context.WithValue(ctx, outcomeKey{}, &outcome{"10.0.0.1:1", metadata.Pairs("x-end", "own")}), call)
			err := next(context.WithValue(ctx, outcomeKey{}, &outcome{"10.0.0.2:1", metadata.Pairs("x-end", "fork")}), fork)
			call.Adopt(fork)
			if call.Peer() != "10.0.0.2:1" || call.Reply("x-end") != "fork" {
				t.Errorf("the call has peer %q and reply %q", call.Peer(), call.Reply("x-end"))
			}
			return err
		}
	}
	attempt := 0
	invoke := func(_ context.Context, _ string, _, reply any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
		if attempt++; attempt == 1 {
			return status.Error(codes.Unavailable, "no")
		}
		for _, opt := range opts {
			switch opt := opt.(type) {
			case grpc.PeerCallOption:
				opt.PeerAddr.LocalAddr = nil
				opt.PeerAddr.Addr = addr("10.0.0.2:1")
			case grpc.TrailerCallOption:
				t.Error("grpc is asked for the trailer")
			}
		}
		s, _ := reply.(*wrapperspb.StringValue)
		s.Value = "forked"
		return nil
	}
	var from peer.Peer
	var trailer metadata.MD
	reply := new(wrapperspb.StringValue)
	err := middleware.ReportedUnaryClient("echo", reported, forking)(t.Context(), "/a.B/C", nil, reply, nil, invoke, grpc.Peer(&from), grpc.Trailer(&trailer))
	if err != nil || reply.GetValue() != "forked" || from.Addr != addr("10.0.0.2:1") || !has(trailer, "x-end", "fork") {
		t.Errorf("the caller got %v, peer %v, trailer %v, %v", reply, from.Addr, trailer, err)
	}
}

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }
