package load_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
	"plinth.internal/middleware/load"
)

// server is a chain with a tracker in it, called without a transport.
type server struct {
	tracker *load.Tracker
	unary   grpc.UnaryServerInterceptor
}

func newServer(opts ...load.Option) *server {
	t := load.New(opts...)
	return &server{t, middleware.UnaryServer(t.Middleware())}
}

// serve handles a call for d.
func (s *server) serve(method string, d time.Duration, err error) {
	_, _ = s.unary(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) {
		<-time.After(d)
		return nil, err
	})
}

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= want*tolerance }

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		if r := s.tracker.Report(); r != (load.Report{}) {
			t.Errorf("a server that has served nothing reports %+v", r)
		}
		// 10 s of 2 callers, each of 80 calls/s of 10 ms with 2.5 ms between.
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for range 800 {
					s.serve(getMethod, 10*time.Millisecond, nil)
					<-time.After(2500 * time.Microsecond)
				}
			})
		}
		wg.Wait()
		r := s.tracker.Report()
		procs := float64(runtime.GOMAXPROCS(0))
		if !near(r.QPS, 160, .05) || !near(r.Latency.Seconds(), .01, .01) || !near(r.Utilization, 1.6/procs, .05) || r.EPS != 0 || r.Failures != 0 || r.InFlight != 0 {
			t.Errorf("the report is %+v", r)
		}
		// The server turns slow: within a second and a half the mean has
		// followed most of the way.
		for range 15 {
			s.serve(getMethod, 100*time.Millisecond, nil)
		}
		if r = s.tracker.Report(); r.Latency < 75*time.Millisecond || r.Latency > 100*time.Millisecond {
			t.Errorf("after 1.5 s of 100 ms the mean is %v", r.Latency)
		}
		// A minute without calls: no rate is left, and the last mean stands.
		last := r.Latency
		<-time.After(time.Hour)
		if r = s.tracker.Report(); r.QPS > 1e-9 || !near(float64(r.Latency), float64(last), .01) {
			t.Errorf("after an hour the report is %+v, with a mean of %v before", r, last)
		}
		s.serve(getMethod, 10*time.Millisecond, nil)
		if r = s.tracker.Report(); r.Latency != 10*time.Millisecond {
			t.Errorf("the first call after an hour makes the mean %v", r.Latency)
		}
	})
}

// TestOneHeavyCall: the mean does not jump at one heavy call.
func TestOneHeavyCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 500 {
					s.serve(getMethod, 2*time.Millisecond, nil)
				}
			})
		}
		wg.Go(func() {
			<-time.After(400 * time.Millisecond)
			s.serve(getMethod, 100*time.Millisecond, nil)
			if got := s.tracker.Report().Latency; got > 3*time.Millisecond {
				t.Errorf("the mean went from 2 ms to %v", got)
			}
		})
		wg.Wait()
	})
}

// TestFirstCallIsSlow: the mean of few calls is no more than that.
func TestFirstCallIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.serve(getMethod, 300*time.Millisecond, nil)
		for range 30 {
			s.serve(getMethod, 5*time.Millisecond, nil)
		}
		if got := s.tracker.Report().Latency; got > 20*time.Millisecond {
			t.Errorf("after 30 calls of 5 ms the mean is %v", got)
		}
	})
}

func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		code    codes.Code
		failure bool
		// whether a call of 1 ms and one of 100 ms count for the latency,
		// among calls of 10 ms
		short, long bool
	}{
		{codes.OK, false, true, true},
		{codes.NotFound, false, true, true},
		{codes.ResourceExhausted, false, false, true},
		{codes.Unimplemented, false, true, true},
		{codes.Canceled, false, false, true},
		{codes.Internal, true, false, true},
		{codes.Unknown, true, false, true},
		{codes.Unavailable, true, false, true},
		{codes.DataLoss, true, false, true},
		{codes.DeadlineExceeded, false, false, true},
	} {
		t.Run(tt.code.String(), func(t *testing.T) {
			for _, d := range []time.Duration{time.Millisecond, 100 * time.Millisecond} {
				counts := tt.short
				if d > 10*time.Millisecond {
					counts = tt.long
				}
				synctest.Test(t, func(t *testing.T) {
					s := newServer()
					for range 100 {
						s.serve(getMethod, 10*time.Millisecond, nil)
					}
					for range 20 {
						s.serve(getMethod, d, status.Error(tt.code, "x"))
					}
					r := s.tracker.Report()
					if moved := !near(float64(r.Latency), float64(10*time.Millisecond), .001); moved != counts {
						t.Errorf("calls of %v make the mean %v", d, r.Latency)
					}
					if (r.Failures > .1) != tt.failure || (r.EPS > 1) != tt.failure {
						t.Errorf("calls of %v make %v of them failures, %v/s", d, r.Failures, r.EPS)
					}
				})
			}
		})
	}
}

// TestOneFailureIsNoTrend: the first call of a quiet server fails.
func TestOneFailureIsNoTrend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.serve(getMethod, 10*time.Millisecond, errors.New("no"))
		if r := s.tracker.Report(); r.Failures > .5 || r.Failures < .4 || r.Latency != 0 {
			t.Errorf("the report is %+v", r)
		}
		for range 500 {
			s.serve(getMethod, 10*time.Millisecond, errors.New("no"))
		}
		if r := s.tracker.Report(); r.Failures < .98 {
			t.Errorf("of a server that fails every call the report is %+v", r)
		}
	})
}

// TestProbesDoNotCount: health checks say nothing about the calls.
func TestProbesDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		for _, method := range []string{checkMethod, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"} {
			var wg sync.WaitGroup
			wg.Go(func() { s.serve(method, 10*time.Millisecond, errors.New("no")) })
			synctest.Wait()
			if n := s.tracker.InFlight(); n != 0 {
				t.Errorf("%s: %d in flight", method, n)
			}
			wg.Wait()
		}
		if r := s.tracker.Report(); r != (load.Report{}) {
			t.Errorf("the report is %+v", r)
		}
	})
}

// TestInFlightIsExact: nothing that a handler can do leaves a call behind.
func TestInFlightIsExact(t *testing.T) {
	s := newServer()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			defer func() { _ = recover() }()
			_, _ = s.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: getMethod}, func(context.Context, any) (any, error) {
				switch i % 3 {
				case 0:
					runtime.Goexit()
				case 1:
					panic("x")
				}
				return nil, context.Canceled
			})
		})
	}
	wg.Wait()
	if n := s.tracker.InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}

func TestStreamsWeighLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := load.New()
		stream := middleware.StreamServer(tracker.Middleware())
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				_ = stream(nil, serverStream{ctx: t.Context()}, &grpc.StreamServerInfo{FullMethod: watchMethod}, func(any, grpc.ServerStream) error {
					<-time.After(time.Minute)
					return status.Error(codes.Internal, "no")
				})
			})
		}
		synctest.Wait()
		if n := tracker.InFlight(); n != 3 {
			t.Errorf("30 streams count as %d calls", n)
		}
		wg.Wait()
		if r := tracker.Report(); r.InFlight != 0 || r.Latency != 0 || r.Utilization != 0 || r.EPS == 0 {
			t.Errorf("the report is %+v", r)
		}
	})
}

type serverStream struct {
	grpc.ServerStream

	ctx context.Context
}

func (s serverStream) Context() context.Context { return s.ctx }
