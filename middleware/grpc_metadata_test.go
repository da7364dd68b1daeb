package middleware

import (
	"context"
	"maps"
	"slices"
	"testing"

	"google.golang.org/grpc/metadata"
)

// TestReplyMD holds that metadata which is used again is as good as new.
func TestReplyMD(t *testing.T) {
	for _, replies := range []pairs{
		{"x-trace-id", "1"},
		{"A", "1", "b", "2", "a", "3"},
		{},
		{"b", "4", "c", "5", "d", "6", "e", "7"},
		{"x-trace-id", "2"},
	} {
		want := metadata.Pairs(replies...)
		got := newReplyMD(replies)
		if !maps.EqualFunc(got.MD, want, slices.Equal) {
			t.Errorf("%v become %v, want %v", replies, got.MD, want)
		}
		got.free()
		if len(got.MD) != 0 || len(got.values) != 0 {
			t.Errorf("%v leave %v and %v behind", replies, got.MD, got.values)
		}
	}
}

// TestIncoming holds that the metadata is found where it is, as grpc finds it, and
// is not copied.
func TestIncoming(t *testing.T) {
	t.Run("made here", func(t *testing.T) {
		testIncoming(t, metadata.MD{"user-agent": {"plinth", "other"}, "Odd-Case": {"x"}, "none": {}})
	})
	t.Run("over a network", func(t *testing.T) {
		testIncoming(t, metadata.MD{":authority": {"echo"}, "user-agent": {"plinth", "other"}, "odd-case": {"x"}, "none": {}})
	})
}

func testIncoming(t *testing.T, md metadata.MD) {
	t.Helper()
	type otherKey struct{}
	ctx := context.WithValue(metadata.NewIncomingContext(t.Context(), md), otherKey{}, 1)
	var c grpcServerCall
	c.incoming.init(ctx)
	for _, key := range []string{"user-agent", "User-Agent", "odd-case", "Odd-Case", "none", "absent", ""} {
		want := ""
		if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
			want = v[0]
		}
		if got := c.header(key); got != want {
			t.Errorf("%q is %q, want %q", key, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		c.incoming.init(ctx)
		_, _ = c.header("user-agent"), c.header("absent")
	}); n > 0 {
		t.Errorf("two look-ups take %v allocations, want none", n)
	}
	c.incoming.init(t.Context())
	if got := c.header("user-agent"); got != "" {
		t.Errorf("without metadata it is %q", got)
	}
}
