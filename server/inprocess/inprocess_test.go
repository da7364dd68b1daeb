package inprocess_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
	"plinth.internal/server/gateway/testdata/restv1"
	"plinth.internal/server/inprocess"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errOwn = errors.New("an error of the handler's own")

type notes struct {
	restv1.UnimplementedNotesServer
}

type ctxKey struct{}

func (notes) Get(ctx context.Context, r *restv1.GetRequest) (*restv1.Note, error) {
	if r.GetId() == "own" {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "t"))
		return nil, fmt.Errorf("wrapped: %w", errOwn)
	}
	in, _ := metadata.FromIncomingContext(ctx)
	out, _ := metadata.FromOutgoingContext(ctx)
	method, _ := grpc.Method(ctx)
	p, _ := peer.FromContext(ctx)
	if err := grpc.SendHeader(ctx, metadata.Pairs("x-header", "h")); err != nil {
		return nil, err
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-late", "l")); err == nil {
		return nil, errors.New("a header can be set after it was sent")
	}
	return &restv1.Note{Id: r.GetId(), Text: fmt.Sprint(method, in["x-color"], len(out), ctx.Value(ctxKey{}), p != nil)}, nil
}

func (notes) List(r *restv1.GetRequest, stream grpc.ServerStreamingServer[restv1.Note]) error {
	switch r.GetId() {
	case "none":
		return errOwn
	case "hangs":
		<-stream.Context().Done()
		return stream.Context().Err()
	case "panic":
		panic("secret")
	case "goexit":
		runtime.Goexit()
	}
	_ = grpc.SetHeader(stream.Context(), metadata.Pairs("x-header", "h"))
	note := &restv1.Note{}
	for i := range int64(3) {
		note.Count = i // used again, as a handler may
		if err := stream.Send(note); err != nil {
			return err
		}
	}
	stream.SetTrailer(metadata.Pairs("x-trailer", "t"))
	return nil
}

func (notes) Chat(stream grpc.BidiStreamingServer[restv1.Note, restv1.Note]) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if in.GetText() == "enough" {
			return status.Error(codes.OutOfRange, "enough")
		}
		if err := stream.Send(in); err != nil {
			return err
		}
	}
}

func client(unary []grpc.UnaryServerInterceptor, stream []grpc.StreamServerInterceptor) restv1.NotesClient {
	h := inprocess.New(unary, stream)
	restv1.RegisterNotesServer(h, notes{})
	return restv1.NewNotesClient(h.Conn())
}

func TestUnary(t *testing.T) {
	c := client(nil, nil)
	ctx := context.WithValue(metadata.AppendToOutgoingContext(t.Context(), "X-Color", "red"), ctxKey{}, 7)
	ctx = peer.NewContext(ctx, &peer.Peer{})
	var header, trailer metadata.MD
	got, err := c.Get(ctx, &restv1.GetRequest{Id: "a"}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || got.GetId() != "a" || got.GetText() != "/test.rest.v1.Notes/Get[red] 0 7 true" {
		t.Errorf("%v %v", got, err)
	}
	if !slices.Equal(header["x-header"], []string{"h"}) || len(trailer) != 0 {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
	if _, err = c.Get(ctx, &restv1.GetRequest{Id: "own"}, grpc.Trailer(&trailer)); !errors.Is(err, errOwn) || trailer["x-trailer"][0] != "t" {
		t.Errorf("error %v, trailer %v", err, trailer)
	}
	if _, err = c.Plain(ctx, &restv1.GetRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("not implemented: %v", err)
	}
	h := inprocess.New(nil, nil)
	if err := h.Conn().Invoke(ctx, "/a/b", got, got); status.Code(err) != codes.Unimplemented || h.Has("/a/b") {
		t.Errorf("unknown: %v", err)
	}
	if _, err := h.Conn().NewStream(ctx, nil, "/a/b"); status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown stream: %v", err)
	}
}

func TestServerStream(t *testing.T) {
	c := client(nil, nil)
	stream, err := c.List(t.Context(), &restv1.GetRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if header, err := stream.Header(); err != nil || header["x-header"][0] != "h" {
		t.Errorf("header %v %v", header, err)
	}
	var first *restv1.Note
	for i := range int64(3) {
		m, err := stream.Recv()
		if err != nil || m.GetCount() != i {
			t.Fatalf("message %d: %v %v", i, m, err)
		}
		if first == nil {
			first = m
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) || stream.Trailer()["x-trailer"][0] != "t" {
		t.Errorf("end: %v %v", err, stream.Trailer())
	}
	if first.GetCount() != 0 {
		t.Error("a message changes after it was received")
	}
}

func TestStreamErrors(t *testing.T) {
	c := client(nil, nil)
	for id, want := range map[string]string{"none": "own", "panic": "panicked", "goexit": "panicked"} {
		stream, err := c.List(t.Context(), &restv1.GetRequest{Id: id})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Header(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: header: %v", id, err)
		}
		_, err = stream.Recv()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", id, err)
		}
		if p, ok := errors.AsType[*middleware.PanicError](err); ok != (id != "none") || id == "panic" && (p.Value != "secret" || !strings.Contains(string(p.Stack), "List")) {
			t.Errorf("%s: %v", id, p)
		}
	}
	ctx, wait := inprocess.Wait(t.Context())
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.List(ctx, &restv1.GetRequest{Id: "hangs"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	wait()
}

func TestBidi(t *testing.T) {
	c := client(nil, nil)
	stream, err := c.Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3) {
		if err := stream.Send(&restv1.Note{Count: i}); err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); err != nil || m.GetCount() != i {
			t.Fatalf("%v %v", m, err)
		}
	}
	if err := stream.Send(&restv1.Note{Text: "enough"}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.OutOfRange {
		t.Errorf("end: %v", err)
	}
	if err := stream.Send(&restv1.Note{}); !errors.Is(err, io.EOF) {
		t.Errorf("send after the end: %v", err)
	}
	stream, err = c.Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}
}

func TestInterceptors(t *testing.T) {
	var order []string
	unary := func(name string) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			order = append(order, name+info.FullMethod)
			return h(ctx, req)
		}
	}
	stream := func(name string) grpc.StreamServerInterceptor {
		return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			order = append(order, name+info.FullMethod)
			return h(srv, ss)
		}
	}
	c := client([]grpc.UnaryServerInterceptor{unary("a"), unary("b"), unary("c")}, []grpc.StreamServerInterceptor{stream("d"), stream("e")})
	if _, err := c.Get(t.Context(), &restv1.GetRequest{}); err != nil {
		t.Error(err)
	}
	s, err := c.List(t.Context(), &restv1.GetRequest{Id: "none"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, errOwn) {
		t.Error(err)
	}
	const get, list = "/test.rest.v1.Notes/Get", "/test.rest.v1.Notes/List"
	if want := []string{"a" + get, "b" + get, "c" + get, "d" + list, "e" + list}; !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
}
