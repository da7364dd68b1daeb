package fault_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"plinth.internal/middleware"
	"plinth.internal/middleware/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const method = "orders.v1.Orders/Get"

// grpcCall makes a unary call through the injector without a network; the headers
// are key, value, ...
func grpcCall(ctx context.Context, i *fault.Injector, fullMethod string, headers ...string) error {
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(headers...))
	_, err := middleware.UnaryServer(i.Middleware())(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/" + fullMethod},
		func(context.Context, any) (any, error) { return "ok", nil })
	return err
}

func set(t *testing.T, i *fault.Injector, header bool, rules ...fault.Rule) {
	t.Helper()
	if err := i.Set(rules, header); err != nil {
		t.Fatal(err)
	}
}

func TestMatch(t *testing.T) {
	fail := fault.Rule{Name: "r", Code: codes.DataLoss}
	with := func(change func(*fault.Rule)) fault.Rule {
		r := fail
		change(&r)
		return r
	}
	for _, tt := range []struct {
		name    string
		rule    fault.Rule
		method  string
		headers []string
		want    bool
	}{
		{"everything", fail, method, nil, true},
		{"everything, with a star", with(func(r *fault.Rule) { r.Method = "*" }), method, nil, true},
		{"everything but health checks", fail, "grpc.health.v1.Health/Check", nil, false},
		{"everything but reflection", fail, "grpc.reflection.v1.ServerReflection/Info", nil, false},
		{"health checks by name", with(func(r *fault.Rule) { r.Method = "grpc.health.*" }), "grpc.health.v1.Health/Check", nil, true},
		{"the method", with(func(r *fault.Rule) { r.Method = method }), method, nil, true},
		{"another method", with(func(r *fault.Rule) { r.Method = method }), method + "All", nil, false},
		{"the service", with(func(r *fault.Rule) { r.Method = "orders.v1.Orders/*" }), method, nil, true},
		{"another service", with(func(r *fault.Rule) { r.Method = "orders.v1.Bills/*" }), method, nil, false},
		{"a header", with(func(r *fault.Rule) { r.Headers = map[string]string{"X-Test": "1"} }), method, []string{"x-test", "1"}, true},
		{"another value", with(func(r *fault.Rule) { r.Headers = map[string]string{"x-test": "1"} }), method, []string{"x-test", "2"}, false},
		{"any value", with(func(r *fault.Rule) { r.Headers = map[string]string{"x-test": "*"} }), method, []string{"x-test", "2"}, true},
		{"no value", with(func(r *fault.Rule) { r.Headers = map[string]string{"x-test": "*"} }), method, nil, false},
		{"0 %", with(func(r *fault.Rule) { r.Percent = new(0.0) }), method, nil, false},
		{"100 %", with(func(r *fault.Rule) { r.Percent = new(100.0) }), method, nil, true},
	} {
		var i fault.Injector
		set(t, &i, false, tt.rule)
		for range 20 {
			err := grpcCall(t.Context(), &i, tt.method, tt.headers...)
			if got := middleware.Code(err) == codes.DataLoss; got != tt.want {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if tt.want && !fault.Domain.Is(err, fault.Reason) {
				t.Fatalf("%s: the error does not say that it is injected: %v", tt.name, err)
			}
		}
	}
}

func TestPercent(t *testing.T) {
	var i fault.Injector
	set(t, &i, false, fault.Rule{Name: "r", Code: codes.Internal, Percent: new(5.0)})
	const calls = 20_000
	failed := 0
	for range calls {
		if grpcCall(t.Context(), &i, method) != nil {
			failed++
		}
	}
	// Four standard deviations: 20 000 x 5 % has one of 31.
	if got := 100 * float64(failed) / calls; math.Abs(got-5) > 0.62 {
		t.Errorf("%.2f %% of the calls failed, want 5 %%", got)
	}
}

// TestOrder: the first rule that a call meets counts, one that misses by chance
// lets the next one try.
func TestOrder(t *testing.T) {
	var i fault.Injector
	set(t, &i, false, fault.Rule{Name: "a", Code: codes.Internal, Percent: new(0.0)}, fault.Rule{Name: "b", Code: codes.Aborted}, fault.Rule{Name: "c", Code: codes.DataLoss})
	if err := grpcCall(t.Context(), &i, method); middleware.Code(err) != codes.Aborted || !strings.Contains(err.Error(), "rule b") {
		t.Errorf("got %v", err)
	}
}

func TestDelayAndHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		i := &fault.Injector{OnFault: func(call *middleware.Call, rule string, kind fault.Kind) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, rule+" "+string(kind)+" "+call.FullMethod())
		}}
		slow := fault.Rule{Name: "slow", Method: "a", Delay: time.Second}
		both := fault.Rule{Name: "both", Method: "b", Delay: time.Second, Code: codes.Unavailable}
		hang := fault.Rule{Name: "hold", Method: "c", Hang: true}
		set(t, i, false, slow, both, hang)
		took := func(ctx context.Context, method string) (time.Duration, codes.Code) {
			begun := time.Now()
			err := grpcCall(ctx, i, method)
			return time.Since(begun), middleware.Code(err)
		}
		if d, code := took(t.Context(), "a"); d != time.Second || code != codes.OK {
			t.Errorf("slow: %v %v", d, code)
		}
		if d, code := took(t.Context(), "b"); d != time.Second || code != codes.Unavailable {
			t.Errorf("slow and failing: %v %v", d, code)
		}
		short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if d, code := took(short, "b"); d != 300*time.Millisecond || code != codes.DeadlineExceeded {
			t.Errorf("slow with a deadline: %v %v", d, code)
		}
		again, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if d, code := took(again, "c"); d != time.Minute || code != codes.DeadlineExceeded {
			t.Errorf("hanging with a deadline: %v %v", d, code)
		}
		// A hang ends when its rule is taken back, not when another one changes.
		begun := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if d, code := took(t.Context(), "c"); d != time.Hour || code != codes.OK {
				t.Errorf("hanging until the rule is gone: %v %v", d, code)
			}
		})
		<-time.After(time.Minute)
		set(t, i, true, hang)
		<-time.After(time.Hour - time.Since(begun))
		set(t, i, false)
		wg.Wait()
		if want := "slow delay a, both delay b, both error b, both delay b, hold hang c, hold hang c"; strings.Join(told, ", ") != want {
			t.Errorf("told %q", told)
		}
	})
}

// TestSetChecks: what cannot be leaves everything as it was.
func TestSetChecks(t *testing.T) {
	var i fault.Injector
	set(t, &i, false, fault.Rule{Name: "good", Code: codes.Aborted})
	for _, tt := range []struct {
		rule fault.Rule
		want string
	}{
		{fault.Rule{Code: codes.Internal}, `rule "": Name is empty`},
		{fault.Rule{Name: "x"}, "does nothing"},
		{fault.Rule{Name: "x", Method: "a*b", Hang: true}, "Method has a *"},
		{fault.Rule{Name: "x", Hang: true, Abort: true}, "a call ends once"},
		{fault.Rule{Name: "x", Hang: true, Code: codes.Internal}, "a call ends once"},
		{fault.Rule{Name: "x", Code: 99}, "is no gRPC code"},
		{fault.Rule{Name: "x", Delay: -1}, "Delay is not from"},
		{fault.Rule{Name: "x", Delay: time.Hour}, "Delay is not from 0s to 5m0s"},
		{fault.Rule{Name: "x", Hang: true, Percent: new(math.NaN())}, "Percent"},
		{fault.Rule{Name: "x", Hang: true, Percent: new(101.0)}, "Percent"},
		{fault.Rule{Name: "x", Hang: true, Headers: map[string]string{"": "1"}}, "empty name"},
		{fault.Rule{Name: "good", Hang: true}, "two of this name"},
	} {
		rules := []fault.Rule{tt.rule}
		if tt.rule.Name == "good" {
			rules = append(rules, tt.rule)
		}
		if err := i.Set(rules, true); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.rule, err, tt.want)
		}
		if err := grpcCall(t.Context(), &i, method, fault.Header, "code=DATA_LOSS"); middleware.Code(err) != codes.Aborted {
			t.Fatalf("%+v changed something: %v", tt.rule, err)
		}
	}
}

func TestHeader(t *testing.T) {
	for _, tt := range []struct {
		header  string
		allowed bool
		want    codes.Code
	}{
		{"code=UNAVAILABLE", true, codes.Unavailable},
		{"delay=1ns, code=NOT_FOUND", true, codes.NotFound},
		{"delay=1ns", true, codes.OK},
		{"code=UNAVAILABLE,percent=0", true, codes.OK},
		{"abort", true, codes.Unavailable},
		{"code=UNAVAILABLE", false, codes.Aborted}, // as the rule says
		{"", true, codes.Aborted},
		{"code=OK", true, codes.InvalidArgument},
		{"code=unavailable", true, codes.InvalidArgument},
		{"hang=1", true, codes.InvalidArgument},
		{"delay=soon", true, codes.InvalidArgument},
		{"delay=1h", true, codes.InvalidArgument},
		{"percent=-1,hang", true, codes.InvalidArgument},
		{"nothing", true, codes.InvalidArgument},
		{strings.Repeat("abort,", 100), true, codes.InvalidArgument},
	} {
		var i fault.Injector
		set(t, &i, tt.allowed, fault.Rule{Name: "r", Code: codes.Aborted})
		if err := grpcCall(t.Context(), &i, method, fault.Header, tt.header); middleware.Code(err) != tt.want {
			t.Errorf("%.40q, allowed %v: %v, want %v", tt.header, tt.allowed, err, tt.want)
		}
	}
}

// TestAbortGRPC cuts the connection of the call, and only that one, over TCP and in
// memory, where all connections have one address.
func TestAbortGRPC(t *testing.T) {
	memory := bufconn.Listen(64 << 10)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for name, lis := range map[string]net.Listener{"tcp": tcp, "memory": memory} {
		t.Run(name, func(t *testing.T) {
			var i fault.Injector
			set(t, &i, false, fault.Rule{Name: "r", Abort: true, Headers: map[string]string{"x-cut": "1"}})
			s := grpc.NewServer(grpc.StreamInterceptor(middleware.StreamServer(i.Middleware())),
				grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return s.SendMsg(&emptypb.Empty{}) }))
			served := make(chan error, 1)
			go func() { served <- s.Serve(i.Listener(lis)) }()
			defer func() {
				s.Stop()
				<-served
			}()
			var dials [2]int
			var conns [2]*grpc.ClientConn
			for n := range conns {
				conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
					grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
						dials[n]++
						if name == "memory" {
							return memory.DialContext(ctx)
						}
						return new(net.Dialer).DialContext(ctx, "tcp", tcp.Addr().String())
					}))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				conns[n] = conn
			}
			call := func(n int, headers ...string) error {
				ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), headers...), 10*time.Second)
				defer cancel()
				return conns[n].Invoke(ctx, "/"+method, &emptypb.Empty{}, &emptypb.Empty{}, grpc.WaitForReady(true))
			}
			for n := range conns {
				if err := call(n); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				if err := call(0, "x-cut", "1"); middleware.Code(err) != codes.Unavailable || fault.Domain.Is(err, fault.Reason) {
					t.Errorf("the call that is cut: %v", err)
				}
				for n := range conns {
					if err := call(n); err != nil {
						t.Errorf("connection %d afterwards: %v", n, err)
					}
				}
			}
			if dials[0] != 4 || dials[1] != 1 {
				t.Errorf("%d connections, want 4 and 1", dials)
			}
		})
	}
}

// TestAbortHTTP: the caller gets an error of the connection, not a response, with
// and without the listener.
func TestAbortHTTP(t *testing.T) {
	for _, wrapped := range []bool{true, false} {
		var i fault.Injector
		set(t, &i, false, fault.Rule{Name: "r", Abort: true, Method: "GET /cut"})
		ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
		mux := http.NewServeMux()
		for _, pattern := range []string{"GET /cut", "GET /"} {
			mux.Handle(pattern, middleware.HTTPServer("orders", pattern, ok, i.Middleware()))
		}
		s := httptest.NewUnstartedServer(mux)
		if wrapped {
			s.Listener = i.Listener(s.Listener)
		}
		s.Start()
		get := func(path string) (string, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(req)
			if err != nil {
				return "", err
			}
			defer func() { _ = resp.Body.Close() }()
			b, err := io.ReadAll(resp.Body)
			return string(b), err
		}
		for range 3 {
			if body, err := get("/cut"); err == nil {
				t.Errorf("wrapped %v: answered %q", wrapped, body)
			}
			if body, err := get("/"); err != nil || body != "ok" {
				t.Errorf("wrapped %v: afterwards %q, %v", wrapped, body, err)
			}
		}
		s.Close()
	}
}

// TestClosedConnectionsAreForgotten: the injector keeps nothing of those that are
// gone.
func TestClosedConnectionsAreForgotten(t *testing.T) {
	var i fault.Injector
	lis := bufconn.Listen(1 << 10)
	l := i.Listener(lis)
	for range 100 {
		go func() {
			if c, err := lis.Dial(); err == nil {
				_ = c.Close()
			}
		}()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Fatal(err)
		}
	}
	_ = l.Close()
	if n := i.Connections(); n != 0 {
		t.Errorf("%d connections are remembered", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "hang", "abort", "delay=100ms, percent=50,code=UNAVAILABLE", "delay=-1s", "percent=NaN,hang", "percent=1e999,abort", "hang=,", "code=", "=,=", "delay=9223372036854775807ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := fault.Parse(s)
		if err != nil {
			return
		}
		if err := r.Validate(); err != nil {
			t.Fatalf("%q was read as a rule that cannot be: %v", s, err)
		}
		if r.Name != fault.ByHeader || r.Method != "" || r.Headers != nil {
			t.Fatalf("%q was read as %+v", s, r)
		}
	})
}

func BenchmarkNoRules(b *testing.B) {
	var i fault.Injector
	h := i.Middleware()(func(context.Context, *middleware.Call) error { return nil })
	ctx, call := b.Context(), &middleware.Call{}
	b.ReportAllocs()
	for b.Loop() {
		if err := h(ctx, call); err != nil {
			b.Fatal(err)
		}
	}
}
