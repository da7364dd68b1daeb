package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	policy "plinth.internal/client/balancer"
	"plinth.internal/middleware/load"
)

const (
	// probeTimeout is how long an instance may take to say how busy it is. One
	// that takes longer is not waited for: that is an answer, too.
	probeTimeout = 20 * time.Millisecond
	// probesAtOnce is how many instances are asked at once at most.
	probesAtOnce = 3
)

// ask asks some instances how busy they are, where the policy wants to know
// before it picks, and reports whether the call has to wait for them. Calls that
// come meanwhile wait for the same answers.
func (p *picker) ask(a *attempt, request policy.Request) bool {
	prober, ok := a.policy.(policy.Prober)
	if !ok {
		return false
	}
	var buf [probesAtOnce]int
	chosen := prober.Probe(p.list, request, buf[:0])
	if len(chosen) == 0 {
		return false
	}
	nodes := make([]*node, len(chosen))
	for k, i := range chosen {
		nodes[k] = p.nodes[i]
	}
	a.asked = p.petiole.probe(nodes)
	return a.asked
}

// answered are the places in the list of those that were asked and have just
// said how busy they are; none if that leaves no choice.
func (p *picker) answered(now time.Time) []int {
	p.petiole.mu.Lock()
	asked := p.petiole.asked
	p.petiole.mu.Unlock()
	var places []int
	for i, n := range p.nodes {
		if slices.Contains(asked, n) {
			if s := n.endpoint.Stats(now); s.Reporting && s.Age < policy.Stale {
				places = append(places, i)
			}
		}
	}
	if len(places) < 2 {
		return nil
	}
	return places
}

// probe asks the nodes for their load in the background, and has all waiting
// calls picked again when they have answered. It reports false if there is
// nobody to ask.
func (p *petiole) probe(nodes []*node) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	if p.asking {
		return true
	}
	type asked struct {
		node    *node
		conn    grpc.ClientConnInterface
		release func()
	}
	var ask []asked
	for _, n := range nodes {
		l := p.links[n.addr]
		if l == nil || l.state != connectivity.Ready {
			continue
		}
		producer, release := l.sc.GetOrBuildProducer(direct{})
		if conn, ok := producer.(grpc.ClientConnInterface); ok {
			ask = append(ask, asked{n, conn, release})
		}
	}
	if len(ask) == 0 {
		return false
	}
	p.asking, p.asked = true, p.asked[:0:0]
	for _, q := range ask {
		p.asked = append(p.asked, q.node)
	}
	p.asks.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, probeTimeout)
		defer cancel()
		var wg sync.WaitGroup
		for _, q := range ask {
			wg.Go(func() {
				defer q.release()
				q.node.ask(ctx, q.conn)
			})
		}
		wg.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asking = false
		if p.ctx.Err() == nil {
			p.pushLocked()
		}
	})
	return true
}

// ask makes a health check for the report that comes with its answer. The answer
// itself is of no interest, nor is its error: without a report nothing is known,
// as before.
func (n *node) ask(ctx context.Context, conn grpc.ClientConnInterface) {
	// A stream, because grpc serves the call option for trailers on whole
	// connections only.
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{}, healthpb.Health_Check_FullMethodName)
	if err != nil {
		return
	}
	if stream.SendMsg(&healthpb.HealthCheckRequest{}) != nil || stream.CloseSend() != nil || stream.RecvMsg(&healthpb.HealthCheckResponse{}) != nil {
		return
	}
	if values := stream.Trailer().Get(load.HeaderReport); len(values) > 0 {
		if r, ok := load.Parse(values[0]); ok {
			n.report(time.Now(), r)
		}
	}
}

// direct gives the connection to one instance: grpc lends it to producers, which
// are its way to calls that a balancer makes itself.
type direct struct{}

func (direct) Build(cc any) (balancer.Producer, func()) {
	conn, _ := cc.(grpc.ClientConnInterface) // it always is one; see balancer.ProducerBuilder
	return conn, func() {}
}
