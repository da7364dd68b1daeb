package client

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"

	policy "plinth.internal/client/balancer"
)

const balancerName = "plinth"

// The balancer registry of grpc is the only way to a balancer of one's own. What
// is registered has no state: all of it travels with the resolver's attributes.
func init() { balancer.Register(balancerBuilder{}) }

type balancerBuilder struct{}

func (balancerBuilder) Name() string { return balancerName }

func (balancerBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	p := &petiole{ClientConn: cc}
	// One pick_first child for each instance: connections, backoff and health
	// checks are theirs (A61, A62).
	p.child = endpointsharding.NewBalancer(p, opts, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return p
}

// petiole is the balancer of one connection: it puts our policy between grpc
// and the children that hold the connections. It is also the ClientConn of its
// child, to see the children's states.
type petiole struct {
	balancer.ClientConn

	child balancer.Balancer
	view  atomic.Pointer[view] // nil until a list is known
}

func (p *petiole) UpdateClientConnState(state balancer.ClientConnState) error {
	v, ok := state.ResolverState.Attributes.Value(viewKey{}).(*view)
	if !ok {
		return balancer.ErrBadResolverState
	}
	p.view.Store(v)
	err := p.child.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: pickfirst.EnableHealthListener(state.ResolverState),
	})
	if len(v.nodes) == 0 {
		return nil // UpdateState has said so; there is nothing to resolve again
	}
	return err
}

// ResolverError is told only while no list is known; see watch.
func (p *petiole) ResolverError(err error) {
	if p.view.Load() == nil {
		p.ClientConn.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(err)})
	}
}

func (p *petiole) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {} // the children listen themselves
func (p *petiole) Close()                                                     { p.child.Close() }
func (p *petiole) ExitIdle()                                                  { p.child.ExitIdle() }

// UpdateState makes a picker of the children's states. It is called by the
// child, under its lock.
func (p *petiole) UpdateState(state balancer.State) {
	v := p.view.Load()
	if v == nil || len(v.nodes) == 0 {
		err := errors.New("the list of instances is not known yet")
		if v != nil {
			err = v.err
		}
		p.ClientConn.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(err)})
		return
	}
	if state.ConnectivityState != connectivity.Ready {
		state.Picker = notReady{children: state.Picker, view: v}
		p.ClientConn.UpdateState(state)
		return
	}
	ready := &picker{}
	for _, child := range endpointsharding.ChildStatesFromPicker(state.Picker) {
		if child.State.ConnectivityState != connectivity.Ready || len(child.Endpoint.Addresses) == 0 {
			continue
		}
		if n := v.byAddr[child.Endpoint.Addresses[0].Addr]; n != nil {
			ready.nodes = append(ready.nodes, n)
			ready.endpoints = append(ready.endpoints, n.endpoint)
			ready.children = append(ready.children, child.State.Picker)
		}
	}
	state.Picker = ready
	p.ClientConn.UpdateState(state)
}

// notReady lets calls wait while a connection is being made, and fails them
// with what is known when none can be.
type notReady struct {
	children balancer.Picker
	view     *view
}

func (p notReady) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	result, err := p.children.Pick(info)
	if err != nil && !errors.Is(err, balancer.ErrNoSubConnAvailable) {
		// Not %w: a status inside would end calls that want to wait until ready.
		err = fmt.Errorf("none of the %d known instances of %q can be called, the last error: %s", len(p.view.nodes), p.view.service, err.Error())
	}
	return result, err
}

// picker picks among the instances that are connected and healthy.
type picker struct {
	nodes     []*node
	endpoints []*policy.Endpoint
	children  []balancer.Picker
}

func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	if len(p.nodes) == 0 { // a child became ready whose instance has just left the list
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	a := attemptOf(info.Ctx)
	if a == nil { // a call around the interceptors
		a = &attempt{Context: info.Ctx, policy: &policy.LeastRequest{}}
	}
	if before := a.node.Load(); before != nil {
		// grpc itself sends again what the instance provably did not process.
		a.tried = append(a.tried, before.endpoint)
	}
	i := a.pick(p.nodes, p.endpoints, a.tried)
	result, err := p.children[i].Pick(info)
	if err != nil {
		return result, err
	}
	endpoint, start, done := p.endpoints[i], time.Now(), result.Done
	endpoint.Begin()
	result.Done = func(info balancer.DoneInfo) {
		outcome := classify(info.Err).balancer
		if !info.BytesSent {
			a.sent.Store(false)
			if info.Err == nil {
				outcome = policy.Ignored // the connection had just gone; grpc picks again
			}
		}
		endpoint.End(outcome, time.Since(start))
		if done != nil {
			done(info)
		}
	}
	return result, nil
}
