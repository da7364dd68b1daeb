//go:build unix

package abuse

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/server"
)

// kind is one kind of malformed request.
type kind struct {
	name string
	addr func(v *victim) string
	// send makes one request over a connection of its own, and errs where the
	// answer is neither a clear error nor a closed connection. rng is its own.
	send func(addr string, rng *rand.Rand) error
}

func toGRPC(v *victim) string  { return v.grpc }
func toHTTP(v *victim) string  { return v.http }
func toAdmin(v *victim) string { return v.admin }

// TestMalformed sends a thousand of each kind, some at a time.
func TestMalformed(t *testing.T) {
	v := newVictim(t)
	requests, workers := 1000, 16
	if testing.Short() {
		requests = 100
	}
	kinds := httpKinds()
	kinds = append(kinds, grpcKinds()...)
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			if err := v.serves(t.Context()); err != nil {
				t.Fatal(err)
			}
			heap, goroutines := footprint()
			var next, failed atomic.Int64
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for {
						n := next.Add(1)
						if n > int64(requests) {
							return
						}
						// Seeded by the number, so that a failure can be had again.
						if err := k.send(k.addr(v), rand.New(rand.NewPCG(uint64(n), 6))); err != nil && failed.Add(1) <= 3 {
							t.Errorf("request %d: %v", n, err)
						}
						if n%100 == 0 {
							if err := v.serves(t.Context()); err != nil {
								t.Errorf("after request %d: %v", n, err)
							}
						}
					}
				})
			}
			wg.Wait()
			if n := failed.Load(); n > 0 {
				t.Errorf("%d of %d had no clear answer", n, requests)
			}
			recovers(t, heap, goroutines)
			if n := v.panics.count.Load(); n > 0 {
				t.Fatalf("%d panics, the first one: %s", n, v.panics.first)
			}
		})
	}
}

// TestTooMuchMetadata: a client of grpc's own learns the limit from the server, and
// why its call fails; its connection lives.
func TestTooMuchMetadata(t *testing.T) {
	v := newVictim(t)
	for range 3 {
		if err := v.serves(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-long", strings.Repeat("x", 100<<10))
		err := v.conn.Invoke(ctx, sayMethod, wrapperspb.String("hello"), new(wrapperspb.StringValue))
		if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "header list size") {
			t.Errorf("with 100 KiB of metadata: %v", err)
		}
	}
}

// TestNoMessage opens calls over gRPC whose message never comes. Those with a
// deadline are ended by it; those without are held until their connection ends, and
// cost no more than a goroutine each.
func TestNoMessage(t *testing.T) {
	v := newVictim(t)
	const connections, streams = 10, 100
	if err := v.serves(t.Context()); err != nil {
		t.Fatal(err)
	}
	growRuntime(4 * connections * streams)
	heap, goroutines := footprint()
	conns := make([]net.Conn, connections)
	for i := range conns {
		f := newFrames()
		for n := range uint32(streams) {
			head := callHead()
			if n%2 == 0 {
				head = callHead("grpc-timeout", "500m")
			}
			f.head(2*n+1, head.encode(), false)
		}
		c, err := dial(v.grpc)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Write(f.Bytes()); err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	for _, c := range conns {
		framer := http2.NewFramer(io.Discard, c)
		framer.ReadMetaHeaders = hpack.NewDecoder(4<<10, nil)
		for ended := 0; ended < streams/2; {
			f, err := framer.ReadFrame()
			if err != nil {
				t.Fatalf("after %d calls were ended: %v", ended, err)
			}
			switch f.(type) {
			case *http2.RSTStreamFrame:
				ended++
			case *http2.MetaHeadersFrame:
				if f.Header().Flags.Has(http2.FlagDataEndStream) {
					ended++
				}
			}
		}
	}
	if err := v.serves(t.Context()); err != nil {
		t.Errorf("meanwhile: %v", err)
	}
	const each = 32 << 10
	if held, _ := footprint(); held > heap+connections*streams/2*each+spareHeap {
		t.Errorf("%d calls hold %d KiB", connections*streams/2, (held-heap)>>10)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	recovers(t, heap, goroutines)
}

// slow is a way to hold a connection: a head that is sent at once, and a piece that
// is sent again and again.
type slow struct {
	name  string
	addr  func(v *victim) string
	head  string
	piece string
	end   time.Duration // when the server has ended it at the latest
}

// TestSlow holds a thousand connections of each kind, all at once, which send next
// to nothing. The server's own limits end them all, and good calls are answered all
// the while.
func TestSlow(t *testing.T) {
	v := newVictim(t)
	connections := 1000
	if testing.Short() {
		connections = 100
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	kinds := []slow{
		{"HTTP head", toHTTP, "GET /ok HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", server.ReadHeaderTimeout},
		{"HTTP, nothing at all", toHTTP, "", "", server.ReadHeaderTimeout},
		{"HTTP body", toHTTP, "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n", "x", readTime},
		{"HTTP chunked body", toHTTP, "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", readTime},
		{"HTTP/2 preface, then nothing", toHTTP, preface, "", server.ReadHeaderTimeout},
		{"admin head", toAdmin, "GET /health HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", server.ReadHeaderTimeout},
		{"admin body", toAdmin, "PUT /debug/log HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "x", server.ReadHeaderTimeout},
		{"gRPC, half of the preface", toGRPC, preface[:10], "", server.ReadHeaderTimeout},
		{"gRPC, nothing at all", toGRPC, "", "", server.ReadHeaderTimeout},
	}
	// Both ends of each are files of this process.
	connections = min(connections, (int(files.Cur)-1000)/2/len(kinds))
	if connections < 50 {
		t.Skipf("%d open files are too few", files.Cur)
	}
	if err := v.serves(t.Context()); err != nil {
		t.Fatal(err)
	}
	growRuntime(4 * connections * len(kinds))
	heap, goroutines := footprint()
	var wg sync.WaitGroup
	slowest := make([]atomic.Int64, len(kinds))
	for i, k := range kinds {
		var failed atomic.Int64
		for range connections {
			wg.Go(func() {
				took, err := drip(k.addr(v), k.head, k.piece)
				if err != nil && failed.Add(1) <= 3 {
					t.Errorf("%s: %v", k.name, err)
				}
				for most := slowest[i].Load(); int64(took) > most && !slowest[i].CompareAndSwap(most, int64(took)); most = slowest[i].Load() {
				}
			})
		}
	}
	<-time.After(server.ReadHeaderTimeout / 2)
	// What is held is the buffers of net/http and grpc, and this client's own.
	const each = 64 << 10
	held, _ := footprint()
	all := uint64(connections * len(kinds))
	if held > heap+all*each+spareHeap {
		t.Errorf("%d connections hold %d KiB", all, (held-heap)>>10)
	}
	for range 20 {
		if err := v.serves(t.Context()); err != nil {
			t.Errorf("meanwhile: %v", err)
		}
		<-time.After(readTime / 10)
	}
	wg.Wait()
	t.Logf("%d connections held %d KiB after %v", all, (max(held, heap)-heap)>>10, server.ReadHeaderTimeout/2)
	for i, k := range kinds {
		took := time.Duration(slowest[i].Load())
		t.Logf("%s: the last of %d was ended after %v", k.name, connections, took.Round(time.Millisecond))
		if took > k.end+patience/2 { // so many at once take turns at the processors
			t.Errorf("%s: the last one was ended after %v, want %v", k.name, took, k.end)
		}
	}
	recovers(t, heap, goroutines)
	if n := v.panics.count.Load(); n > 0 {
		t.Fatalf("%d panics, the first one: %s", n, v.panics.first)
	}
}

// growRuntime has n goroutines run at once. The runtime keeps what it has made to
// hold goroutines, which is no leak of anybody's.
func growRuntime(n int) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range n {
		wg.Go(func() { <-start })
	}
	close(start)
	wg.Wait()
}

// drip sends a head and then a little again and again, until the server ends the
// connection, and tells how long that took. It errs where the server does not.
func drip(addr, head, piece string) (time.Duration, error) {
	c, err := dial(addr)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	defer func() { _ = c.Close() }()
	gone := make(chan error, 1)
	go func() { gone <- readToEnd(c) }()
	_, broken := c.Write([]byte(head))
	for {
		select {
		case err := <-gone:
			return time.Since(begun), err
		case <-time.After(400 * time.Millisecond):
			if piece != "" && broken == nil {
				_, broken = c.Write([]byte(piece))
			}
		}
	}
}

// readToEnd reads until the server closes, and errs where it does not.
func readToEnd(c io.Reader) error {
	buf := make([]byte, 512)
	for {
		_, err := c.Read(buf)
		if err == nil {
			continue
		}
		if isTimeout(err) {
			return fmt.Errorf("the connection is still open after %v", patience)
		}
		return nil
	}
}
