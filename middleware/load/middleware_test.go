package load_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"plinth.internal/middleware"
	"plinth.internal/middleware/load"
)

// reported is the report in the trailer, which must hold one at most.
func reported(t *testing.T, md metadata.MD) (load.Report, bool) {
	t.Helper()
	v := md.Get(load.HeaderReport)
	if len(v) == 0 {
		return load.Report{}, false
	}
	if len(v) > 1 {
		t.Errorf("%d reports", len(v))
	}
	r, ok := load.Parse(v[0])
	if !ok {
		t.Errorf("%q is no report", v[0])
	}
	return r, ok
}

// TestReportsTravel: with every outcome of every kind of call.
func TestReportsTravel(t *testing.T) {
	for _, err := range []error{nil, status.Error(codes.NotFound, "no"), status.Error(codes.Internal, "no")} {
		t.Run(status.Code(err).String(), func(t *testing.T) {
			cc := start(t, func(context.Context) error { return err }, load.New().Middleware())
			ctx := metadata.AppendToOutgoingContext(t.Context(), load.HeaderWanted, "1")
			var trailer, header metadata.MD
			for range 20 { // so that some are not due
				if e := call(ctx, cc, getMethod, grpc.Trailer(&trailer), grpc.Header(&header)); status.Code(e) != status.Code(err) {
					t.Fatal(e)
				}
				r, ok := reported(t, trailer)
				if !ok || r.InFlight != 0 || r.Failures < 0 || len(header.Get(load.HeaderReport)) > 0 {
					t.Fatalf("report %+v, %v, header %v", r, ok, header)
				}
			}
			s, e := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, watchMethod)
			if e != nil {
				t.Fatal(e)
			}
			_ = s.CloseSend()
			if e := s.RecvMsg(new(emptypb.Empty)); err == nil && !errors.Is(e, io.EOF) || err != nil && status.Code(e) != status.Code(err) {
				t.Fatal(e)
			}
			if _, ok := reported(t, s.Trailer()); !ok {
				t.Error("the stream has no report")
			}
		})
	}
}

// TestReportIsOrca: the published type reads what is sent.
func TestReportIsOrca(t *testing.T) {
	cc := start(t, func(context.Context) error { return nil }, load.New().Middleware())
	ctx := metadata.AppendToOutgoingContext(t.Context(), load.HeaderWanted, "1")
	var trailer metadata.MD
	var ours load.Report
	for ours.QPS == 0 { // until the first calls are in the means
		if err := call(ctx, cc, getMethod, grpc.Trailer(&trailer)); err != nil {
			t.Fatal(err)
		}
		ours, _ = reported(t, trailer)
	}
	desc := orcaType(t)
	m := dynamicpb.NewMessage(desc)
	if err := proto.Unmarshal([]byte(trailer.Get(load.HeaderReport)[0]), m); err != nil {
		t.Fatal(err)
	}
	named := m.Get(desc.Fields().ByName("named_metrics")).Map()
	if len(m.GetUnknown()) > 0 || named.Len() != 3 || ours.Latency == 0 ||
		m.Get(desc.Fields().ByName("rps_fractional")).Float() != ours.QPS ||
		m.Get(desc.Fields().ByName("application_utilization")).Float() != ours.Utilization {
		t.Errorf("protobuf reads %v, we read %+v", m, ours)
	}
}

// TestUnasked: clients of Plinth's that ask for no report get one in 10 ms, other
// callers and probes always, and HTTP, where nobody else would read it, never.
func TestUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := load.New()
		unary := middleware.UnaryServer(tracker.Middleware())
		serve := func(method, agent string) int {
			var ts transportStream
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("user-agent", agent))
			ctx = grpc.NewContextWithServerTransportStream(ctx, &ts)
			if _, err := unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) { return "x", nil }); err != nil {
				t.Fatal(err)
			}
			return len(ts.trailer.Get(load.HeaderReport))
		}
		ours, others, probes := 0, 0, 0
		for range 1000 {
			<-time.After(100 * time.Microsecond)
			ours += serve(getMethod, "plinth/orders grpc-go/1.85.0")
			others += serve(getMethod, "grpc-python/1.70.0")
			probes += serve(checkMethod, "plinth/orders grpc-go/1.85.0")
		}
		if ours != 10 || others != 1000 || probes != 1000 {
			t.Errorf("in 100 ms %d reports with calls of Plinth's, %d with 1000 calls of others, %d with 1000 health checks", ours, others, probes)
		}
	})
	s := httptest.NewServer(middleware.HTTPServer("shop", "/", http.NotFoundHandler(), load.New().Middleware()))
	defer s.Close()
	if _, h := fetch(t, s, ""); h.Get("Endpoint-Load-Metrics-Bin") != "" {
		t.Errorf("headers %v", h)
	}
}

// transportStream keeps the trailer that is set without a connection.
type transportStream struct {
	grpc.ServerTransportStream

	trailer metadata.MD
}

func (s *transportStream) SetTrailer(md metadata.MD) error {
	s.trailer = metadata.Join(s.trailer, md)
	return nil
}

// fetch makes a request with a limit, "" for none.
func fetch(t *testing.T, s *httptest.Server, limit string) (int, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if limit != "" {
		r.Header.Set("Plinth-Rif-Max", limit)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header
}

// busy starts n calls that last until the returned function is called, and are
// over when it returns.
func busy(t *testing.T, tracker *load.Tracker, n int) (release func()) {
	t.Helper()
	done, entered := make(chan struct{}), make(chan struct{}, n)
	unary := middleware.UnaryServer(tracker.Middleware())
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			_, _ = unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: getMethod}, func(context.Context, any) (any, error) {
				entered <- struct{}{}
				<-done
				return "x", nil
			})
		})
	}
	for range n {
		<-entered
	}
	return func() { close(done); wg.Wait() }
}

// limits are what a caller can send to a server with three calls in flight.
var limits = []struct {
	limit   string
	bounces bool
}{
	{"", false}, {"1", true}, {"3", true}, {"003", true}, {"4", false}, {"1000", false},
	{"0", false}, {"-1", false}, {"+1", false}, {"1.5", false}, {"1 2", false}, {"one", false}, {"1e3", false},
	{"99999999999999999999", false},
}

func TestBounce(t *testing.T) {
	var told []string
	tracker := load.New(load.OnBounce(func(c *middleware.Call) { told = append(told, c.FullMethod()) }))
	handled := 0
	inside := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error { handled++; return next(ctx, c) }
	}
	cc := start(t, func(context.Context) error { return nil }, tracker.Middleware(), inside)
	defer busy(t, tracker, 3)()
	bounced := 0
	for _, tt := range limits {
		t.Run(tt.limit, func(t *testing.T) {
			handled = 0
			ctx := metadata.AppendToOutgoingContext(t.Context(), load.HeaderLimit, tt.limit)
			var trailer, header metadata.MD
			err := call(ctx, cc, getMethod, grpc.Trailer(&trailer), grpc.Header(&header))
			mark := trailer.Get(load.HeaderBounce)
			if !tt.bounces {
				if err != nil || handled != 1 || len(mark) > 0 {
					t.Errorf("the call was not served: %v, trailer %v", err, trailer)
				}
				return
			}
			bounced++
			r, ok := reported(t, trailer)
			if status.Code(err) != codes.Unavailable || handled != 0 || len(mark) != 1 || mark[0] != "1" || !ok || r.InFlight != 3 || r.Failures != 0 {
				t.Errorf("%v, handled %d times, mark %v, report %+v, %v", err, handled, mark, r, ok)
			}
			// Trailers only, so that nothing has been answered - A6.
			if len(header) > 0 {
				t.Errorf("headers %v", header)
			}
			// Neither streams nor probes are handed back.
			if err := call(ctx, cc, checkMethod, grpc.Trailer(&trailer)); err != nil {
				t.Errorf("health check: %v", err)
			}
			if r, ok := reported(t, trailer); !ok || r.InFlight != 3 {
				t.Errorf("the health check reports %+v, %v", r, ok)
			}
			s, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, watchMethod)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.CloseSend()
			if err := s.RecvMsg(new(emptypb.Empty)); !errors.Is(err, io.EOF) {
				t.Errorf("stream: %v", err)
			}
		})
	}
	if n := tracker.Bounced(); n != int64(bounced) || len(told) != bounced || told[0] != "shop.v1.Orders/Get" {
		t.Errorf("%d bounces, %d counted, told of %v", bounced, n, told)
	}
	if n, r := tracker.InFlight(), tracker.Report(); n != 3 || r.EPS != 0 || r.Failures != 0 {
		t.Errorf("%d in flight after all, %+v", n, r)
	}
}

func TestHTTP(t *testing.T) {
	tracker := load.New()
	handled := 0
	s := httptest.NewServer(middleware.HTTPServer("shop", "/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		handled++
		_, _ = io.WriteString(w, "hi")
	}), tracker.Middleware()))
	defer s.Close()
	release := busy(t, tracker, 3)
	for _, tt := range limits {
		handled = 0
		code, h := fetch(t, s, tt.limit)
		if bounced := h.Get("Plinth-Bounce") == "1"; bounced != tt.bounces || bounced != (code == http.StatusServiceUnavailable) || bounced != (handled == 0) {
			t.Errorf("limit %q: status %d, handled %d times, headers %v", tt.limit, code, handled, h)
		}
		r, ok := load.FromHTTP(h)
		if ok != (tt.limit != "") || ok && r.InFlight != 3 {
			t.Errorf("limit %q: report %+v, %v", tt.limit, r, ok)
		}
	}
	release()
	s.Close() // waits for the handlers
	if n := tracker.InFlight(); n != 0 {
		t.Errorf("%d in flight after all", n)
	}
}

// TestHTTPRefused: a report goes with what a middleware answers, too.
func TestHTTPRefused(t *testing.T) {
	tracker := load.New()
	refuse := func(middleware.Handler) middleware.Handler {
		return func(context.Context, *middleware.Call) error { return status.Error(codes.PermissionDenied, "no") }
	}
	s := httptest.NewServer(middleware.HTTPServer("shop", "/", http.NotFoundHandler(), tracker.Middleware(), refuse))
	defer s.Close()
	release := busy(t, tracker, 2)
	defer release()
	code, h := fetch(t, s, "9")
	if r, ok := load.FromHTTP(h); code != http.StatusForbidden || !ok || r.InFlight != 2 {
		t.Errorf("status %d, report %+v, %v", code, r, ok)
	}
}

// TestHTTPLatencyEndsWithHeaders: a response that lasts does not make the server
// look slow.
func TestHTTPLatencyEndsWithHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := load.New()
		h := middleware.HTTPServer("shop", "/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			<-time.After(10 * time.Millisecond)
			_, _ = io.WriteString(w, "event")
			<-time.After(time.Hour)
		}), tracker.Middleware())
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		if r := tracker.Report(); r.Latency != 10*time.Millisecond {
			t.Errorf("the report is %+v", r)
		}
	})
}

// BenchmarkMiddleware is what a call pays, with and without a report; compare
// with none.
func BenchmarkMiddleware(b *testing.B) {
	noop := func(context.Context, any) (any, error) { return "x", nil }
	info := &grpc.UnaryServerInfo{FullMethod: getMethod}
	for _, tt := range []struct {
		name  string
		chain []middleware.Middleware
		md    metadata.MD
	}{
		{"none", nil, metadata.Pairs(load.HeaderLimit, "1000")},
		{"report", []middleware.Middleware{load.New().Middleware()}, metadata.Pairs(load.HeaderLimit, "1000")},
		{"unasked", []middleware.Middleware{load.New().Middleware()}, metadata.Pairs("user-agent", "plinth/orders")},
	} {
		unary := middleware.UnaryServer(tt.chain...)
		for range 5 {
			tt.md.Append("key-"+strconv.Itoa(len(tt.md)), "value") // as a real call has
		}
		ctx := grpc.NewContextWithServerTransportStream(metadata.NewIncomingContext(b.Context(), tt.md), discard{})
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = unary(ctx, nil, info, noop)
			}
		})
		b.Run(tt.name+"-parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, _ = unary(ctx, nil, info, noop)
				}
			})
		})
	}
	b.Run("bounce", func(b *testing.B) {
		tracker := load.New()
		unary := middleware.UnaryServer(tracker.Middleware())
		ctx := grpc.NewContextWithServerTransportStream(metadata.NewIncomingContext(b.Context(), metadata.Pairs(load.HeaderLimit, "1")), discard{})
		release, entered := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = unary(context.Background(), nil, info, func(context.Context, any) (any, error) { close(entered); <-release; return "x", nil })
		})
		<-entered
		b.ReportAllocs()
		for b.Loop() {
			if _, err := unary(ctx, nil, info, noop); err == nil {
				b.Fatal("served")
			}
		}
		close(release)
		wg.Wait()
	})
}

type discard struct{ grpc.ServerTransportStream }

func (discard) SetTrailer(metadata.MD) error { return nil }
