package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	policy "plinth.internal/client/balancer"
	"plinth.internal/middleware/load"
)

const balancerName = "plinth"

// The balancer registry of grpc is the only way to a balancer of one's own. What
// is registered has no state: all of it travels with the resolver's attributes.
func init() { balancer.Register(balancerBuilder{}) }

type balancerBuilder struct{}

func (balancerBuilder) Name() string { return balancerName }

func (balancerBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	p := &petiole{ClientConn: cc, links: map[string]*link{}, waiting: map[*paced]*time.Timer{}, lastResort: new(atomic.Bool)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	// One pick_first child for each instance: connections and backoff are
	// theirs (A61, A62).
	p.child = endpointsharding.NewBalancer(p, opts, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return p
}

// petiole is the balancer of one connection: it puts our policy between grpc
// and the children that hold the connections. It is also the ClientConn of its
// child, to see the children's states and their connections.
//
// It asks the instances for their health itself: pick_first, which could, hides
// a connection whose instance says NOT_SERVING, and that is one to fall back on.
type petiole struct {
	balancer.ClientConn

	child      balancer.Balancer
	lastResort *atomic.Bool // told of; see picker
	ctx        context.Context
	cancel     context.CancelFunc
	asks       sync.WaitGroup // the goroutines of probe

	mu     sync.Mutex
	asking bool             // instances are being asked for their load
	asked  []*node          // those that are, or that were last
	view   *view            // nil until a list is known
	state  balancer.State   // the children's, as told last
	links  map[string]*link // by address

	callable int                    // instances that can be called
	waiting  map[*paced]*time.Timer // connections that are not made yet
}

// link is the connection to one instance. Its fields are guarded by petiole.mu,
// but for sc and addr, which do not change once it connects.
type link struct {
	sc     balancer.SubConn
	addr   string
	state  connectivity.State
	failed bool      // it could not be connected to, and was not since
	next   time.Time // the attempt after it failed, once it was put off
	// health is READY for SERVING, CONNECTING while it is not known,
	// TRANSIENT_FAILURE for anything else.
	health connectivity.State
	// err is why the instance cannot be called, nil if it can or if that is not
	// known.
	err error
	// cause is why it failed, as long as it has.
	cause error
}

func (p *petiole) UpdateClientConnState(state balancer.ClientConnState) error {
	v, ok := state.ResolverState.Attributes.Value(viewKey{}).(*view)
	if !ok {
		return balancer.ErrBadResolverState
	}
	failed := map[*node]error{} // that the registry has lost, now or before
	p.mu.Lock()
	p.view = v
	v.service.petioles.Store(p, nil)
	for addr, l := range p.links {
		if n := v.byAddr[addr]; n != nil && n.quarantined && l.err != nil {
			failed[n] = l.err
		}
	}
	p.mu.Unlock()
	for n, err := range failed {
		v.drop(n, err)
	}
	err := p.child.UpdateClientConnState(balancer.ClientConnState{ResolverState: state.ResolverState})
	if len(v.byAddr) == 0 {
		return nil // UpdateState has said so; there is nothing to resolve again
	}
	return err
}

// ResolverError is told only while no list is known; see watch.
func (p *petiole) ResolverError(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.view == nil {
		p.failLocked(err)
	}
}

func (p *petiole) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {} // the children listen themselves
func (p *petiole) ExitIdle()                                                  { p.child.ExitIdle() }

// Close is called by grpc when the connection is closed.
func (p *petiole) Close() {
	p.mu.Lock()
	p.cancel() // under the lock, so that no probe begins after the wait
	if p.view != nil {
		p.view.service.petioles.Delete(p)
	}
	p.mu.Unlock()
	p.asks.Wait()
	p.child.Close()
}

// NewSubConn lets a child make its connection, and listens to it as well.
func (p *petiole) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	l := &link{addr: addrs[0].Addr}
	child := opts.StateListener
	opts.StateListener = func(s balancer.SubConnState) {
		if s.ConnectionError != nil {
			s.ConnectionError = p.explainMute(l.addr, s.ConnectionError)
		}
		p.linkChanged(l, s)
		child(s)
	}
	sc, err := p.ClientConn.NewSubConn(addrs, opts) //nolint:staticcheck // the warning is about several addresses; there is one
	l.sc = sc
	if err != nil {
		return nil, err
	}
	return &paced{SubConn: sc, petiole: p, link: l}, nil
}

// linkChanged is called by grpc, before the child is told the same.
func (p *petiole) linkChanged(l *link, s balancer.SubConnState) {
	p.mu.Lock()
	l.state, l.health, l.err = s.ConnectivityState, connectivity.Connecting, nil
	if s.ConnectivityState == connectivity.TransientFailure {
		l.err = fmt.Errorf("connect to %s: %w", l.addr, s.ConnectionError)
		l.failed, l.cause = true, l.err
	}
	if s.ConnectivityState != connectivity.Shutdown {
		p.links[l.addr] = l
	} else if p.links[l.addr] == l {
		delete(p.links, l.addr)
	}
	if s.ConnectivityState == connectivity.Ready {
		l.failed, l.cause, l.next = false, nil, time.Time{}
	}
	v, err := p.view, l.err
	p.mu.Unlock()
	if s.ConnectivityState == connectivity.Ready {
		l.sc.RegisterHealthListener(func(h balancer.SubConnState) { p.healthChanged(l, h) })
	}
	if n := v.byAddr[l.addr]; n != nil && err != nil {
		v.drop(n, err)
		n.unreachable(err)
	}
}

// healthChanged is called by grpc while the connection is there.
func (p *petiole) healthChanged(l *link, h balancer.SubConnState) {
	p.mu.Lock()
	if p.links[l.addr] != l || l.state != connectivity.Ready {
		p.mu.Unlock()
		return
	}
	l.health, l.err = h.ConnectivityState, nil
	if l.health == connectivity.TransientFailure {
		l.err = fmt.Errorf("check the health of %s: %w", l.addr, h.ConnectionError)
	}
	v, err := p.view, l.err
	p.pushLocked()
	p.mu.Unlock()
	if n := v.byAddr[l.addr]; n != nil && err != nil {
		v.drop(n, err)
	}
}

// UpdateState takes the children's states. It is called by the child, under its
// lock.
func (p *petiole) UpdateState(state balancer.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
	p.pushLocked()
}

// pushLocked makes a picker of what is known and hands it to grpc: one of the
// instances that are connected and say SERVING; without any, of those that are
// connected but do not, or drain, which beats certain failure; without any of
// those, one that waits for whatever is on its way, or fails.
func (p *petiole) pushLocked() {
	v := p.view
	if v == nil || len(v.byAddr) == 0 {
		err := errors.New("the list of instances is not known yet")
		if v != nil {
			err = v.err
		}
		p.failLocked(err)
		return
	}
	healthy, rest := &picker{petiole: p, view: v}, &picker{petiole: p, view: v, lastResort: p.lastResort}
	probing := false
	for _, child := range endpointsharding.ChildStatesFromPicker(p.state.Picker) {
		if child.State.ConnectivityState != connectivity.Ready || len(child.Endpoint.Addresses) == 0 {
			continue
		}
		addr := child.Endpoint.Addresses[0].Addr
		n, l := v.byAddr[addr], p.links[addr]
		switch {
		case n == nil || l == nil: // it has just left the list
		case n.spare || l.health == connectivity.TransientFailure:
			rest.add(n, child.State.Picker)
		case l.health == connectivity.Ready:
			healthy.add(n, child.State.Picker)
		default:
			probing = true
		}
	}
	p.callableLocked(len(healthy.nodes))
	switch {
	case len(healthy.nodes) > 0:
		p.lastResort.Store(false)
		p.ClientConn.UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: healthy.ready()})
	case len(rest.nodes) > 0:
		p.ClientConn.UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: rest.ready()})
	case probing, p.state.ConnectivityState == connectivity.Ready:
		p.ClientConn.UpdateState(balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)})
	default:
		state := p.state
		state.Picker = notReady{children: state.Picker, view: v}
		p.ClientConn.UpdateState(state)
	}
}

func (p *petiole) failLocked(err error) {
	p.ClientConn.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(err)})
}

// notReady lets calls wait while a connection is being made, and fails them
// with what is known when none can be.
type notReady struct {
	children balancer.Picker
	view     *view
}

func (p notReady) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	result, err := p.children.Pick(info)
	result = bare(result)
	if err != nil && !errors.Is(err, balancer.ErrNoSubConnAvailable) {
		// Only the text: a status inside would end calls that want to wait
		// until ready.
		err = p.view.uncallable(err.Error())
	}
	return result, err
}

// picker picks among instances that are connected.
type picker struct {
	petiole  *petiole
	view     *view
	nodes    []*node
	children []balancer.Picker
	list     *policy.List // of nodes
	division atomic.Pointer[division[*picker]]
	// lastResort is nil if the instances are healthy; else it says whether it
	// has been told that they are not.
	lastResort *atomic.Bool
}

func (p *picker) add(n *node, child balancer.Picker) {
	p.nodes = append(p.nodes, n)
	p.children = append(p.children, child)
}

// ready finishes the picker, when all are added.
func (p *picker) ready() *picker {
	endpoints := make([]*policy.Endpoint, len(p.nodes))
	for i, n := range p.nodes {
		endpoints[i] = n.endpoint
	}
	p.list = policy.NewList(endpoints)
	return p
}

func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	s := p.view.service
	if p.lastResort != nil && p.lastResort.CompareAndSwap(false, true) {
		s.client.options.events(LastResort{Service: s.name, Instances: len(p.nodes)})
	}
	a := attemptOf(info.Ctx)
	if a == nil { // a call around the interceptors
		a = &attempt{Context: info.Ctx, service: s, policy: s.grpc.policies.get("")}
	}
	if before := a.node.Load(); before != nil {
		// grpc itself sends again what the instance provably did not process.
		a.tried = append(a.tried, before.endpoint)
	}
	now := time.Now()
	from, i, err := p.choose(now, a)
	if err != nil {
		return balancer.PickResult{}, err
	}
	n := from.nodes[i]
	result, err := from.children[i].Pick(info)
	if err != nil {
		return result, err
	}
	result = bare(result)
	a.choose(n)
	a.begin(now, n)
	done := result.Done
	result.Done = func(info balancer.DoneInfo) {
		a.done(n, info)
		if done != nil {
			done(info)
		}
	}
	return result, nil
}

// index is the place of the instance that a policy picks.
func (p *picker) index(now time.Time, a *attempt, by policy.Policy) (int, error) {
	request := a.request(now, a.tried)
	if a.asked {
		request.Among = p.answered(now)
	} else if p.ask(a, request) {
		return 0, balancer.ErrNoSubConnAvailable // until those that are asked have answered
	}
	return by.Pick(p.list, request), nil
}

// done takes in how an attempt has ended.
func (a *attempt) done(n *node, info balancer.DoneInfo) {
	a.trailer = info.Trailer
	if values := info.Trailer[load.HeaderReport]; len(values) > 0 {
		a.report, a.told = load.Parse(values[0])
	}
	if info.Err != nil && len(info.Trailer[load.HeaderBounce]) > 0 {
		a.bounced.Store(true)
	}
	if info.BytesReceived && len(info.Trailer["content-type"]) == 0 { // there it means that nothing but the status came
		a.heard.Store(true)
	}
	if !info.BytesSent {
		a.sent.Store(false)
		if info.Err == nil {
			a.forget(n) // the connection had just gone; grpc picks again
			return
		}
	}
	a.end(n, info.Err)
}
