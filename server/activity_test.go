package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/middleware"
)

func TestActivity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a activity
		during := func(grpc, http int) func() {
			return func() {
				if a.grpcInFlight() != grpc || a.httpInFlight() != http {
					t.Errorf("%d and %d are in flight, want %d and %d", a.grpcInFlight(), a.httpInFlight(), grpc, http)
				}
			}
		}
		call := func(kind middleware.Kind, service string, then func()) {
			h := a.middleware(func(context.Context, *middleware.Call) error { then(); return nil })
			if err := h(t.Context(), &middleware.Call{Kind: kind, Service: service, Start: time.Now()}); err != nil {
				t.Error(err)
			}
		}
		call(middleware.ServerUnary, "grpc.health.v1.Health", during(0, 0))
		call(middleware.ServerStream, "grpc.reflection.v1.ServerReflection", during(0, 0))
		if !a.lastCall().IsZero() {
			t.Errorf("last call %v", a.lastCall())
		}
		first := time.Now()
		call(middleware.ServerUnary, "s.S", func() { call(middleware.ServerHTTP, "web", during(1, 1)) })
		<-time.After(activityGrain)
		call(middleware.ServerUnary, "s.S", during(1, 0)) // too soon to be worth a write
		if !a.lastCall().Equal(first) {
			t.Errorf("last call %v, want %v", a.lastCall(), first)
		}
		<-time.After(1)
		call(middleware.ServerUnary, "s.S", during(1, 0))
		if !a.lastCall().Equal(time.Now()) {
			t.Errorf("last call %v, want %v", a.lastCall(), time.Now())
		}
		during(0, 0)()
	})
}

func TestArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{activity: &activity{}}
		call := func(service string) {
			h := s.activity.middleware(func(context.Context, *middleware.Call) error { return nil })
			if err := h(t.Context(), &middleware.Call{Kind: middleware.ServerUnary, Service: service, Start: time.Now()}); err != nil {
				t.Error(err)
			}
		}
		call("s.S")
		if n, last := s.Arrivals(); n != 0 || !last.IsZero() {
			t.Errorf("%d calls, the last one at %v, before anybody counts", n, last)
		}
		s.CountArrivals()
		for range 3 {
			<-time.After(time.Millisecond) // less than the grain of the last call
			call("s.S")
		}
		want := time.Now()
		<-time.After(time.Second)
		call("grpc.health.v1.Health")
		if n, last := s.Arrivals(); n != 3 || !last.Equal(want) {
			t.Errorf("%d calls, the last one at %v; want 3 and %v", n, last, want)
		}
		s.CountArrivals()
		if n, _ := s.Arrivals(); n != 0 {
			t.Errorf("%d calls after the count has begun anew", n)
		}
	})
}
