package limit_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"plinth.internal/apierror"
	"plinth.internal/middleware"
	"plinth.internal/middleware/limit"
)

func configured(t testing.TB, c limit.Config, opts ...limit.Option) *limit.Limiter {
	t.Helper()
	l := limit.New(opts...)
	if err := l.Configure(c); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestRejection: what a call that is turned away looks like over gRPC, and who is not
// turned away.
func TestRejection(t *testing.T) {
	var mu sync.Mutex
	var told []string
	l := configured(t, limit.Config{Max: 3}, limit.OnReject(func(c *middleware.Call, r limit.Reason) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, c.FullMethod()+" "+string(r))
	}))
	h := newHolder()
	cc := start(t, h.handle, l.Middleware())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := call(t.Context(), cc, getMethod); err != nil {
				t.Error(err)
			}
		})
	}
	h.wait(t, 3)
	var header, trailer metadata.MD
	err := call(t.Context(), cc, getMethod, grpc.Header(&header), grpc.Trailer(&trailer))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the fourth call: %v", err)
	}
	// Trailers only, so that nothing has been answered - A6.
	if len(header) > 0 {
		t.Errorf("headers %v", header)
	}
	if v := trailer.Get("grpc-retry-pushback-ms"); len(v) != 1 {
		t.Errorf("trailer %v", trailer)
	} else if ms, err := strconv.Atoi(v[0]); err != nil || ms < 1 || ms > 100 {
		t.Errorf("pushback %q", v[0])
	}
	if !limit.Domain.Is(err, "IN_FLIGHT") {
		t.Errorf("the fourth call has the details %v", status.Convert(err).Details())
	}
	if v := trailer.Get(middleware.HeaderUnprocessed); len(v) != 1 || v[0] != "1" {
		t.Errorf("trailer %v", trailer)
	}
	if err := call(t.Context(), cc, checkMethod); err != nil {
		t.Errorf("a health check: %v", err)
	}
	s, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, watchMethod)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.CloseSend()
	if err := s.RecvMsg(new(emptypb.Empty)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a stream: %v", err)
	}
	close(h.release)
	wg.Wait()
	if err := call(t.Context(), cc, getMethod); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 2 || told[0] != "shop.v1.Orders/Get in_flight" || told[1] != "shop.v1.Orders/Watch in_flight" {
		t.Errorf("told of %q", told)
	}
	if s := l.Stats(); s.Rejected[limit.InFlight] != 2 || s.InFlight != 0 || s.Lasting != 0 {
		t.Errorf("%+v", s)
	}
}

// TestStreamsHoldNoPlace: any number of streams may rest beside calls, but for Max.
func TestStreamsHoldNoPlace(t *testing.T) {
	l := configured(t, limit.Config{})
	h := newHolder()
	streams := start(t, h.handle, l.Middleware())
	calls := start(t, func(context.Context) error { return nil }, l.Middleware())
	const n = 500
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func() error {
		s, err := streams.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, watchMethod)
		if err != nil {
			return err
		}
		return s.CloseSend()
	}
	for range n {
		if err := open(); err != nil {
			t.Fatal(err)
		}
	}
	h.wait(t, n)
	if err := call(t.Context(), calls, getMethod); err != nil {
		t.Errorf("a call beside %d streams: %v", n, err)
	}
	if s := l.Stats(); s.Lasting != n || s.InFlight != 0 {
		t.Errorf("%d streams, %d calls in flight", s.Lasting, s.InFlight)
	}
	if err := l.Configure(limit.Config{Max: n / 10}); err != nil {
		t.Fatal(err)
	}
	if err := call(t.Context(), calls, getMethod); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("above Max: %v", err)
	}
	close(h.release)
}

// TestHTTP: a request that is turned away, and one that holds its place until the
// head of its response.
func TestHTTP(t *testing.T) {
	l := configured(t, limit.Config{Max: 1})
	head, body := make(chan struct{}), make(chan struct{})
	entered := make(chan struct{}, 10)
	s := httptest.NewServer(middleware.HTTPServer("shop", "/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		if r.Header.Get("Quick") == "" {
			<-head
			_, _ = io.WriteString(w, "event")
			_ = http.NewResponseController(w).Flush()
			<-body
		}
	}), l.Middleware()))
	defer s.Close()
	get := func(quick string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Quick", quick)
		return s.Client().Do(r)
	}
	slow := make(chan *http.Response)
	go func() {
		resp, err := get("") //nolint:bodyclose // the test closes it when it has looked at the server meanwhile
		if err != nil {
			t.Error(err)
		}
		slow <- resp
	}()
	<-entered
	resp, err := get("1")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1" ||
		resp.Header.Get("Grpc-Retry-Pushback-Ms") == "" || resp.Header.Get("Plinth-Unprocessed") != "1" {
		t.Errorf("status %d, headers %v, %s", resp.StatusCode, resp.Header, text)
	}
	close(head)
	first := <-slow
	if st := l.Stats(); st.InFlight != 0 || st.Lasting != 1 {
		t.Errorf("while the body is sent: %d in flight, %d lasting", st.InFlight, st.Lasting)
	}
	resp, err = get("1")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("beside a body: status %d", resp.StatusCode)
	}
	close(body)
	_, _ = io.Copy(io.Discard, first.Body)
	_ = first.Body.Close()
	s.Close() // waits for the handlers
	if st := l.Stats(); st.InFlight != 0 || st.Lasting != 0 {
		t.Errorf("after all: %d in flight, %d lasting", st.InFlight, st.Lasting)
	}
}

// TestCriticalityTravels: what the caller says is in the handler's context.
func TestCriticalityTravels(t *testing.T) {
	var got middleware.Criticality
	cc := start(t, func(ctx context.Context) error { got = middleware.CriticalityOf(ctx); return nil }, configured(t, limit.Config{}).Middleware())
	for said, want := range map[string]middleware.Criticality{
		"": middleware.Critical, "critical": middleware.Critical, "critical_plus": middleware.CriticalPlus,
		"sheddable_plus": middleware.SheddablePlus, "sheddable": middleware.Sheddable, "SHEDDABLE": middleware.Critical, "x": middleware.Critical,
	} {
		ctx := t.Context()
		if said != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, middleware.HeaderCriticality, said)
		}
		if err := call(ctx, cc, getMethod); err != nil || got != want {
			t.Errorf("%q: %v in the handler, want %v (%v)", said, got, want, err)
		}
	}
}

// TestParts: how many calls of each criticality are let in, one after the other.
func TestParts(t *testing.T) {
	cpus := int64(runtime.GOMAXPROCS(0))
	for c, want := range map[middleware.Criticality]int64{
		middleware.Sheddable: 16 * cpus * 6 / 10, middleware.SheddablePlus: 16 * cpus * 8 / 10, middleware.Critical: 16 * cpus, middleware.CriticalPlus: 24 * cpus,
	} {
		t.Run(c.String(), func(t *testing.T) {
			l := configured(t, limit.Config{})
			h := newHolder()
			var reason limit.Reason
			unary := middleware.UnaryServer(l.Middleware(), func(next middleware.Handler) middleware.Handler { return next })
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(middleware.HeaderCriticality, c.String()))
			var wg sync.WaitGroup
			n := int64(0)
			for reason == "" && n < 100*cpus {
				out := make(chan error, 1)
				wg.Go(func() {
					_, err := unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: getMethod}, func(ctx context.Context, _ any) (any, error) { return nil, h.handle(ctx) })
					out <- err
				})
				select {
				case <-h.entered:
					n++
				case err := <-out:
					if status.Code(err) != codes.ResourceExhausted {
						t.Fatal(err)
					}
					for r, k := range l.Stats().Rejected {
						if k > 0 {
							reason = r
						}
					}
				}
			}
			wantReason := limit.InFlight
			if c == middleware.Sheddable || c == middleware.SheddablePlus {
				wantReason = limit.Criticality
			}
			if n != want || reason != wantReason || l.Stats().Parts[c] != want {
				t.Errorf("%d are let in, then %q; want %d and %q", n, reason, want, wantReason)
			}
			close(h.release)
			wg.Wait()
		})
	}
}

// TestPartsOfMax: what matters less goes first whatever sets the limit, and streams take
// their part of it.
func TestPartsOfMax(t *testing.T) {
	const floorAndMore = 1000
	for name, tt := range map[string]struct {
		config  limit.Config
		streams int
		want    map[middleware.Criticality]int64
	}{
		"max": {limit.Config{Max: 10}, 0, map[middleware.Criticality]int64{
			middleware.CriticalPlus: 10, middleware.Critical: 10, middleware.SheddablePlus: 8, middleware.Sheddable: 6,
		}},
		"max alone": {limit.Config{Max: 10, Off: true}, 0, map[middleware.Criticality]int64{
			middleware.CriticalPlus: 10, middleware.Critical: 10, middleware.SheddablePlus: 8, middleware.Sheddable: 6,
		}},
		"max of 1": {limit.Config{Max: 1}, 0, map[middleware.Criticality]int64{
			middleware.CriticalPlus: 1, middleware.Critical: 1, middleware.SheddablePlus: 1, middleware.Sheddable: 1,
		}},
		"streams": {limit.Config{Max: 10}, 20, map[middleware.Criticality]int64{
			middleware.CriticalPlus: 8, middleware.Critical: 8, middleware.SheddablePlus: 6, middleware.Sheddable: 4,
		}},
		"neither": {limit.Config{Off: true}, 0, map[middleware.Criticality]int64{
			middleware.CriticalPlus: floorAndMore, middleware.Critical: floorAndMore, middleware.Sheddable: floorAndMore,
		}},
	} {
		for c, want := range tt.want {
			synctest.Test(t, func(t *testing.T) {
				l := configured(t, tt.config)
				unary, stream := middleware.UnaryServer(l.Middleware()), middleware.StreamServer(l.Middleware())
				ctx, cancel := context.WithCancel(metadata.NewIncomingContext(t.Context(), metadata.Pairs(middleware.HeaderCriticality, c.String())))
				for range tt.streams {
					go func() {
						_ = stream(nil, resting{ctx}, &grpc.StreamServerInfo{FullMethod: watchMethod}, func(any, grpc.ServerStream) error {
							<-ctx.Done()
							return nil
						})
					}()
				}
				synctest.Wait()
				for range floorAndMore {
					go func() {
						_, _ = unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: getMethod}, func(ctx context.Context, _ any) (any, error) {
							<-ctx.Done()
							return nil, ctx.Err()
						})
					}()
				}
				synctest.Wait()
				s := l.Stats()
				if s.InFlight != want || s.Lasting != int64(tt.streams) {
					t.Errorf("%s: %d calls and %d streams of %v are in flight, want %d and %d", name, s.InFlight, s.Lasting, c, want, tt.streams)
				}
				reason := limit.InFlight
				if want < tt.want[middleware.Critical] {
					reason = limit.Criticality
				}
				if n := s.Rejected[reason]; n != floorAndMore-want {
					t.Errorf("%s: %v of %v, want all %s", name, s.Rejected, c, reason)
				}
				cancel()
				synctest.Wait()
			})
		}
	}
}

// resting is a stream on which nothing comes.
type resting struct{ ctx context.Context }

func (r resting) Context() context.Context     { return r.ctx }
func (r resting) SetHeader(metadata.MD) error  { return nil }
func (r resting) SendHeader(metadata.MD) error { return nil }
func (r resting) SetTrailer(metadata.MD)       {}
func (r resting) SendMsg(any) error            { return nil }
func (r resting) RecvMsg(any) error            { return io.EOF }

// TestRates: by method and by caller, over gRPC and HTTP, and taken back while calls
// are made.
func TestRates(t *testing.T) {
	l := configured(t, limit.Config{Rates: []limit.Rate{
		{Name: "method", Method: "shop.v1.Orders/Get", RPS: 0.1, Burst: 5},
		{Name: "caller", Method: "shop.*", Caller: limit.EachCaller, RPS: 0.1, Burst: 2},
	}})
	cc := start(t, func(context.Context) error { return nil }, l.Middleware())
	as := func(name string) (pushback string, err error) {
		var trailer metadata.MD
		err = call(metadata.AppendToOutgoingContext(t.Context(), middleware.HeaderCaller, name), cc, getMethod, grpc.Trailer(&trailer))
		if v := trailer.Get("grpc-retry-pushback-ms"); len(v) > 0 {
			return v[0], err
		}
		return "", err
	}
	for i, tt := range []struct {
		caller string
		ok     bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"b", true}, {"c", false}} {
		pushback, err := as(tt.caller)
		if (err == nil) != tt.ok {
			t.Errorf("call %d of %s: %v", i, tt.caller, err)
		}
		if e, ok := apierror.From(err); !tt.ok {
			rate, reason := "caller", "RATE_CALLER"
			if tt.caller == "c" {
				rate, reason = "method", "RATE_METHOD"
			}
			if !ok || e.Domain() != limit.Domain || e.Reason() != reason || e.Metadata()["rate"] != rate || !strings.HasSuffix(e.Message(), "(rate "+rate+")") {
				t.Errorf("call %d of %s: %v", i, tt.caller, err)
			}
		}
		if ms, _ := strconv.Atoi(pushback); !tt.ok && (ms < 9000 || ms > 10000) {
			t.Errorf("call %d: pushback %q", i, pushback)
		}
	}
	if s := l.Stats(); s.Rejected[limit.RateCaller] != 1 || s.Rejected[limit.RateMethod] != 1 {
		t.Errorf("%v", s.Rejected)
	}
	if err := l.Configure(limit.Config{}); err != nil {
		t.Fatal(err)
	}
	if _, err := as("c"); err != nil {
		t.Errorf("without rates: %v", err)
	}
	h := httptest.NewServer(middleware.HTTPServer("shop", "GET /items/{id}", http.NotFoundHandler(),
		configured(t, limit.Config{Rates: []limit.Rate{{Name: "items", Method: "GET /items/{id}", RPS: 0.1, Burst: 1}}}).Middleware()))
	defer h.Close()
	for _, want := range []int{http.StatusNotFound, http.StatusTooManyRequests} {
		resp, err := h.Client().Get(h.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || want == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "10" {
			t.Errorf("status %d, headers %v, want %d", resp.StatusCode, resp.Header, want)
		}
	}
}

// TestNames: who a call is counted for.
func TestNames(t *testing.T) {
	prove := func(name string) middleware.Middleware {
		return func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, call *middleware.Call) error {
				return next(middleware.WithCaller(ctx, name), call)
			}
		}
	}
	for _, tt := range []struct {
		proved string
		md     metadata.MD
		want   string
	}{
		{"jwt:someone", metadata.Pairs("user-agent", "plinth/orders grpc-go/1", "plinth-caller", "x"), "jwt:someone"},
		{"", metadata.Pairs("user-agent", "plinth/orders grpc-go/1", "plinth-caller", "x"), "orders"},
		{"", metadata.Pairs("user-agent", "plinth grpc-go/1", "plinth-caller", "x"), "x"},
		{"", metadata.Pairs("user-agent", "grpc-go/1"), ""}, // there is no peer either
	} {
		synctest.Test(t, func(t *testing.T) {
			l := configured(t, limit.Config{})
			unary := middleware.UnaryServer(prove(tt.proved), l.Middleware())
			for range 30 {
				_, _ = unary(metadata.NewIncomingContext(t.Context(), tt.md), nil, &grpc.UnaryServerInfo{FullMethod: getMethod}, func(context.Context, any) (any, error) {
					<-time.After(60 * time.Millisecond)
					return "x", nil
				})
			}
			if s := l.Stats(); len(s.Callers) != 1 || s.Callers[0].Caller != tt.want {
				t.Errorf("counted for %+v, want %q", s.Callers, tt.want)
			}
		})
	}
	s := httptest.NewServer(middleware.HTTPServer("shop", "/", http.NotFoundHandler(),
		configured(t, limit.Config{Rates: []limit.Rate{{Name: "host", Caller: "127.0.0.1", RPS: 0.1, Burst: 1}}}).Middleware()))
	defer s.Close()
	for _, want := range []int{http.StatusNotFound, http.StatusTooManyRequests} {
		resp, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
}

// TestFirstPushback: a server that knows no latency yet does not say "at once", and its
// callers do not come back all together.
func TestFirstPushback(t *testing.T) {
	l := configured(t, limit.Config{Max: 1})
	h := newHolder()
	cc := start(t, h.handle, l.Middleware())
	var wg sync.WaitGroup
	wg.Go(func() { _ = call(t.Context(), cc, getMethod) })
	h.wait(t, 1)
	said := map[string]bool{}
	for range 100 {
		var trailer metadata.MD
		if err := call(t.Context(), cc, getMethod, grpc.Trailer(&trailer)); status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
		said[trailer.Get("grpc-retry-pushback-ms")[0]] = true
	}
	if said["0"] || len(said) < 3 {
		t.Errorf("told to wait for %v ms", said)
	}
	close(h.release)
	wg.Wait()
}

// TestCallersChecked: where callers are checked those that prove nothing are known by
// their host, whatever they say.
func TestCallersChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		rate limit.Rate
		want []int
	}{
		"each": {limit.Rate{Caller: limit.EachCaller, RPS: 0.1, Burst: 1}, []int{http.StatusNotFound, http.StatusTooManyRequests, http.StatusTooManyRequests}},
		"host": {limit.Rate{Caller: "127.0.0.1", RPS: 0.1, Burst: 1}, []int{http.StatusNotFound, http.StatusTooManyRequests, http.StatusTooManyRequests}},
		"name": {limit.Rate{Caller: "x1", RPS: 0.1, Burst: 1}, []int{http.StatusNotFound, http.StatusNotFound, http.StatusNotFound}},
	} {
		tt.rate.Name = name
		l := configured(t, limit.Config{Rates: []limit.Rate{tt.rate}}, limit.CallersChecked())
		s := httptest.NewServer(middleware.HTTPServer("shop", "/", http.NotFoundHandler(), l.Middleware()))
		for i, want := range tt.want {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(middleware.HeaderCaller, "x"+strconv.Itoa(i))
			if name == "name" {
				r.Header.Set(middleware.HeaderCaller, "x1")
			}
			resp, err := s.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s: request %d: status %d, want %d", name, i, resp.StatusCode, want)
			}
		}
		s.Close()
	}
}

// TestEvents: a burst is told of twice, however many calls it turns away.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []limit.Event
		l := configured(t, limit.Config{Max: 1}, limit.WithEvents(func(e limit.Event) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, e)
		}))
		unary := middleware.UnaryServer(l.Middleware())
		serve := func(d time.Duration) {
			_, _ = unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: getMethod}, func(context.Context, any) (any, error) {
				<-time.After(d)
				return "x", nil
			})
		}
		for range 3 {
			done := make(chan struct{})
			go func() { serve(5 * time.Second); close(done) }()
			synctest.Wait()
			for range 1000 {
				serve(0)
				<-time.After(time.Millisecond)
			}
			<-done
		}
		for range 100 {
			serve(200 * time.Millisecond)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(told) != 2 {
			t.Fatalf("told of %+v", told)
		}
		began, ok := told[0].(limit.SheddingBegan)
		if !ok || began.Reason != limit.InFlight || began.Method != "shop.v1.Orders/Get" || began.Limit != 1 || began.InFlight != 1 {
			t.Errorf("%+v", told[0])
		}
		ended, ok := told[1].(limit.SheddingEnded)
		if !ok || len(ended.Counts) != 1 || ended.Counts[limit.InFlight] != 3000 || ended.Took < 10*time.Second || ended.Took > 12*time.Second {
			t.Errorf("%+v", told[1])
		}
	})
}

// TestGoexit: a handler that ends its goroutine, or panics, does not stay in flight.
func TestGoexit(t *testing.T) {
	l := configured(t, limit.Config{})
	unary := middleware.UnaryServer(l.Middleware())
	for _, end := range []func(){runtime.Goexit, func() { panic(errors.New("x")) }} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { _ = recover() }()
			_, _ = unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: getMethod}, func(context.Context, any) (any, error) { end(); return nil, nil })
		}()
		<-done
	}
	if n := l.Stats().InFlight; n != 0 {
		t.Errorf("%d in flight", n)
	}
}

// TestRealOverload overloads a real server over gRPC and over HTTP for a short time:
// what it can serve it serves, in time.
func TestRealOverload(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const workers, each, length, deadline = 2, 10 * time.Millisecond, 4 * time.Second, 500 * time.Millisecond
	const capacity = float64(workers) / float64(each) * float64(time.Second)
	// A pool with a queue that nobody leaves.
	newPool := func() func(context.Context) error {
		free := make(chan struct{}, workers)
		return func(ctx context.Context) error {
			free <- struct{}{}
			<-time.After(each)
			<-free
			return ctx.Err()
		}
	}
	load := func(t *testing.T, do func(ctx context.Context) (good, shed bool)) (good, shed, all int) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		tick := time.NewTicker(time.Duration(float64(time.Second) / (2 * capacity)))
		defer tick.Stop()
		end := time.After(length)
		for {
			select {
			case <-tick.C:
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), deadline)
					defer cancel()
					g, s := do(ctx)
					mu.Lock()
					defer mu.Unlock()
					all++
					if g {
						good++
					}
					if s {
						shed++
					}
				})
			case <-end:
				wg.Wait()
				return good, shed, all
			}
		}
	}
	judge := func(t *testing.T, good, shed, all int) {
		t.Helper()
		t.Logf("%d calls, %d good, %d turned away; %.0f %% of the capacity", all, good, shed, 100*float64(good)/length.Seconds()/capacity)
		// Timers of a busy machine are late, so that the pool does less than it can.
		if late := all - good - shed; late > all/20 || good < int(0.5*capacity*length.Seconds()) || shed == 0 {
			t.Errorf("of %d calls %d are good and %d turned away: %d are late", all, good, shed, late)
		}
	}
	t.Run("gRPC", func(t *testing.T) {
		cc := start(t, newPool(), configured(t, limit.Config{}).Middleware())
		good, shed, all := load(t, func(ctx context.Context) (bool, bool) {
			err := call(ctx, cc, getMethod)
			return err == nil, status.Code(err) == codes.ResourceExhausted
		})
		judge(t, good, shed, all)
	})
	t.Run("HTTP", func(t *testing.T) {
		work := newPool()
		s := httptest.NewServer(middleware.HTTPServer("shop", "/", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_ = work(r.Context())
		}), configured(t, limit.Config{}).Middleware()))
		defer s.Close()
		s.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 1000
		good, shed, all := load(t, func(ctx context.Context) (bool, bool) {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, http.NoBody)
			if err != nil {
				t.Error(err)
				return false, false
			}
			resp, err := s.Client().Do(r)
			if err != nil {
				return false, false
			}
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			return err == nil && resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusTooManyRequests
		})
		judge(t, good, shed, all)
	})
}

// BenchmarkMiddleware is what a call pays; compare with none.
func BenchmarkMiddleware(b *testing.B) {
	noop := func(context.Context, any) (any, error) { return "x", nil }
	info := &grpc.UnaryServerInfo{FullMethod: getMethod}
	md := metadata.Pairs("user-agent", "plinth/orders grpc-go/1.85.0", ":authority", "orders", "content-type", "application/grpc", "traceparent", "00-0-0-01", "x-a", "1", "x-b", "2")
	ctx := grpc.NewContextWithServerTransportStream(metadata.NewIncomingContext(b.Context(), md), discard{})
	rates := []limit.Rate{{Name: "a", Method: "shop.v1.Orders/Get", RPS: 1e7}, {Name: "b", Caller: "*", RPS: 1e7}}
	for _, tt := range []struct {
		name  string
		chain []middleware.Middleware
	}{
		{"none", nil},
		{"limit", []middleware.Middleware{configured(b, limit.Config{}).Middleware()}},
		{"rates", []middleware.Middleware{configured(b, limit.Config{Rates: rates}).Middleware()}},
		{"rejected", []middleware.Middleware{configured(b, limit.Config{Rates: []limit.Rate{{Name: "a", RPS: 1e-9}}}).Middleware()}},
	} {
		unary := middleware.UnaryServer(tt.chain...)
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
}

type discard struct{ grpc.ServerTransportStream }

func (discard) SetTrailer(metadata.MD) error { return nil }
