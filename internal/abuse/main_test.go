//go:build unix

package abuse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/apierror"
	"plinth.internal/framework"
	"plinth.internal/middleware"
	"plinth.internal/server"
	"plinth.internal/server/gateway/testdata/restv1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	sayMethod = "/abuse.v1.Echo/Say"
	maxBody   = 64 << 10
	// patience is how long an answer may take: the server gives the head of a
	// request a third of that, and this machine may be busy.
	patience = 3 * server.ReadHeaderTimeout
	readTime = time.Second // server.http.read_timeout
)

// echoServer has one method, which answers with what it was sent.
type echoServer interface {
	Say(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
}

type echo struct{}

func (echo) Say(_ context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	return in, nil
}

var echoDesc = grpc.ServiceDesc{
	ServiceName: "abuse.v1.Echo",
	HandlerType: (*echoServer)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Say",
		Handler: func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			handler := func(ctx context.Context, req any) (any, error) {
				return srv.(echoServer).Say(ctx, req.(*wrapperspb.StringValue))
			}
			return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: sayMethod}, handler)
		},
	}},
}

// notes takes what it is given.
type notes struct {
	restv1.UnimplementedNotesServer
}

func (notes) Put(_ context.Context, n *restv1.Note) (*restv1.Note, error) { return n, nil }

// readAll answers with the length of the body, or says what is wrong with it.
func readAll(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if tooMuch, ok := errors.AsType[*middleware.HTTPError](err); ok {
		middleware.WriteHTTPError(w, tooMuch)
		return
	}
	if err != nil {
		middleware.WriteHTTPError(w, apierror.Domain("abuse").New(codes.InvalidArgument, "BROKEN_BODY", "the body cannot be read", apierror.Cause(err)))
		return
	}
	_, _ = fmt.Fprint(w, n)
}

// victim is an app under abuse, and a client of good will.
type victim struct {
	grpc, http, admin string // addresses
	conn              *grpc.ClientConn
	client            *http.Client
	panics            *panicLog
}

// panicLog counts what net/http and the app say of panics.
type panicLog struct {
	count atomic.Int64
	mu    sync.Mutex
	first string
}

func (p *panicLog) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "panic") {
		p.note(string(b))
	}
	return len(b), nil
}

func (p *panicLog) note(text string) {
	if p.count.Add(1) == 1 {
		p.mu.Lock()
		p.first = text
		p.mu.Unlock()
	}
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{panics: &panicLog{}}
	// net/http tells of panics in its servers through the standard logger.
	before := log.Writer()
	log.SetOutput(v.panics)
	t.Cleanup(func() { log.SetOutput(before) })
	app, err := framework.New("echo", func(_ context.Context, s *framework.Service) error {
		s.RegisterService(&echoDesc, echo{})
		s.Gateway(restv1.RestRoutes)
		restv1.RegisterNotesServer(s, notes{})
		s.Handle("POST /read", http.HandlerFunc(readAll))
		s.Handle("GET /ok", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
		return nil
	},
		framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(v.panics),
		framework.WithSetting("server.grpc.addr", "127.0.0.1:0"), framework.WithSetting("server.http.addr", "127.0.0.1:0"),
		framework.WithSetting("server.admin.addr", "127.0.0.1:0"), framework.WithSetting("server.drain.delay", "0s"),
		framework.WithSetting("server.http.max_body", strconv.Itoa(maxBody)), framework.WithSetting("server.http.read_timeout", readTime.String()),
		framework.WithSetting("server.http.idle_timeout", "2s"), framework.WithSetting("registry.snapshot_dir", "off"),
		framework.WithEvents(func(e framework.Event) {
			if e, ok := e.(framework.HandlerPanicked); ok {
				v.panics.note(fmt.Sprint(e.Value))
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	select {
	case <-app.Ready():
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	v.grpc, v.http, v.admin = app.Endpoints()["grpc"], app.Endpoints()["http"], app.Endpoints()["admin"]
	v.conn, err = grpc.NewClient("passthrough:///"+v.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	v.client = &http.Client{Transport: transport, Timeout: 10 * time.Second}
	t.Cleanup(func() { _ = v.conn.Close() })
	return v
}

// serves checks that good calls to all listeners are answered, without delay.
func (v *victim) serves(ctx context.Context) error {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out wrapperspb.StringValue
	if err := v.conn.Invoke(ctx, sayMethod, wrapperspb.String("hello"), &out); err != nil || out.GetValue() != "hello" {
		return fmt.Errorf("a good gRPC call got %q: %w", out.GetValue(), err)
	}
	for _, url := range []string{"http://" + v.http + "/ok", "http://" + v.admin + "/health/ready"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := v.client.Do(req)
		if err != nil {
			return fmt.Errorf("a good request: %w", err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("a good request to %s: %s", url, resp.Status)
		}
	}
	if took := time.Since(begun); took > 5*time.Second {
		return fmt.Errorf("good calls took %v", took)
	}
	return nil
}

// footprint is what the process holds.
func footprint() (heap uint64, goroutines int) {
	runtime.GC()
	runtime.GC() // what finalizers and pools have held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, runtime.NumGoroutine()
}

// spare is what may be held beside what was held before: buffers in pools, a
// finished server's statistics.
const (
	spareHeap       = 8 << 20
	spareGoroutines = 4
)

// recovers waits until the process holds no more than it did.
func recovers(t *testing.T, heap uint64, goroutines int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		h, g := footprint()
		if h <= heap+spareHeap && g <= goroutines+spareGoroutines {
			return
		}
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("afterwards %d KiB of heap, %d before; %d goroutines, %d before:\n%s", h>>10, heap>>10, g, goroutines, buf[:runtime.Stack(buf, true)])
		}
		<-time.After(50 * time.Millisecond)
	}
}

// dial opens a connection whose every read and write ends.
func dial(addr string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(patience))
}
