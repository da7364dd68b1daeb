//go:build linux

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/stats"

	"plinth.internal/client"
	"plinth.internal/framework"
	"plinth.internal/middleware"
)

// workVariable tells a worker what it is, as the JSON of a workSpec.
const workVariable = "CHAOS_WORK"

// workSpec is what an instance does that is not the usual one.
type workSpec struct {
	Service   string `json:"service,omitempty"` // its name
	Next      string `json:"next,omitempty"`    // the service that each call asks in its turn
	Transport string `json:"transport,omitempty"`

	Workers int           `json:"workers,omitempty"` // of its pool; 0 = none
	Each    time.Duration `json:"each,omitempty"`    // what one of them takes for a call

	Counts bool `json:"counts,omitempty"` // count what arrives and what is made again
}

// The services of a chain, after the one that is called.
const (
	middleService = "middle"
	lastService   = "last"
)

// become makes a worker what its variable says.
func (w *worker) become(text string) error {
	w.spec.Service = workService
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &w.spec); err != nil {
		return err
	}
	if w.spec.Service == "" {
		w.spec.Service = workService
	}
	if w.spec.Workers > 0 {
		w.pool = newPool(w.spec.Workers, w.spec.Each)
	}
	return nil
}

// link connects a worker to the service behind it, with whatever a service of the
// framework gets for that by default.
func (w *worker) link(s *framework.Service) error {
	switch {
	case w.spec.Next == "":
	case w.spec.Transport == overHTTP:
		w.next = invokeHTTP(s.HTTPClient(w.spec.Next), w.spec.Next)
	default:
		conn, err := s.Client(w.spec.Next)
		if err != nil {
			return err
		}
		ask := invokeGRPC(conn)
		w.next = func(ctx context.Context, l *line, request string, t *trace) error {
			return ask(middleware.WithIdempotency(ctx, middleware.Idempotent), l, request, t)
		}
	}
	return nil
}

// hear counts what becomes of the calls that a worker makes itself.
func (w *worker) hear(e framework.Event) {
	if e, ok := e.(framework.ClientEvent); ok {
		switch e.Event.(type) {
		case client.CallRetried:
			w.retried.Add(1)
		case client.CallBounced:
			w.bounced.Add(1)
		}
	}
}

// knocks counts the calls that reach a worker's transport, whatever becomes of
// them there.
type knocks struct{ *worker }

func (a knocks) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if info.FullMethodName == workMethod {
		a.arrived.Add(1)
	}
	return ctx
}

func (knocks) HandleRPC(context.Context, stats.RPCStats)                         {}
func (knocks) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (knocks) HandleConn(context.Context, stats.ConnStats)                       {}

// sum adds up what the instances of a service have counted.
func sum(instances []*instance) counts {
	var all counts
	for _, i := range instances {
		c := i.count()
		all.Arrived += c.Arrived
		all.Started += c.Started
		all.Done += c.Done
		all.Dropped += c.Dropped
		all.Retried += c.Retried
		all.Bounced += c.Bounced
	}
	return all
}

// testFleetChain is F20: the overload of F19 in the last of three services that call
// one another. The callers and each of the services retry.
func testFleetChain(t *testing.T, g *fleetGroup) {
	const servers = 2
	capacity := capacityOf(servers)
	last := pooled
	last.Service = lastService
	w := newFleetWorld(t, fleetSpec{
		etcd: g.etcd, group: g, servers: servers, rate: usualLoad * capacity,
		work:  workSpec{Next: middleService, Counts: true},
		tiers: []workSpec{{Service: middleService, Next: lastService, Counts: true}, last},
	})
	before := w.census()
	w.timed(len(w.baseline(time.Now()).lost()) <= len(w.baseline(time.Now()))/100, "before: at most 1 % lost", "%d of %d", len(w.baseline(time.Now()).lost()), len(w.baseline(time.Now())))
	was := [3]counts{sum(w.workers), sum(w.tiers[0]), sum(w.tiers[1])}
	asked := time.Now()
	o := w.overloads()
	is := [3]counts{sum(w.workers), sum(w.tiers[0]), sum(w.tiers[1])}
	offered := len(w.ledger.made(asked, w.ended))
	var arrived, bounced [3]int64
	for i := range is {
		arrived[i], bounced[i] = is[i].Arrived-was[i].Arrived, is[i].Bounced-was[i].Bounced
	}
	w.judgeOverload(o, capacity)
	perCall := func(n int64) float64 { return float64(n) / float64(max(1, offered)) }
	limit := 1.2 + savedUp(w, offered)
	w.outcome(perCall(arrived[2]) <= limit, "attempts at the last service: at most 1.2 x the calls that were offered"+savedUpText(),
		"%.3f x (%d for %d calls; at the first %.3f x, at the second %.3f x; without those that were handed back as the instance was busier than the others %.3f x); retries made by the first %d, by the second %d",
		perCall(arrived[2]), arrived[2], offered, perCall(arrived[0]), perCall(arrived[1]), perCall(arrived[2]-bounced[1]), is[0].Retried-was[0].Retried, is[1].Retried-was[1].Retried)
	w.leavesNothing(before)
	w.finish(fleetRow{id: "F20", what: fmt.Sprintf("the same in a chain of three services of %d instances; the last one has %d workers of %v in each", servers, poolWorkers, poolWork)})
}
