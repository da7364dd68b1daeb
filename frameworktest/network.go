package frameworktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc/test/bufconn"
)

// network connects listeners in memory by their addresses.
type network struct {
	mu        sync.Mutex
	started   map[string]int // services by name
	listeners map[string]*bufconn.Listener
}

func newNetwork() *network {
	return &network{started: map[string]int{}, listeners: map[string]*bufconn.Listener{}}
}

var errNobody = errors.New("nobody listens there")

const bufferSize = 256 << 10

// listen opens the listeners of one more instance of a service, in the order of
// listenerNames.
func (n *network) listen(service string) [len(listenerNames)]net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.started[service]++
	var out [len(listenerNames)]net.Listener
	for i := range listenerNames {
		addr := fmt.Sprintf("%s-%d.mem:%d", service, n.started[service], 9000+i)
		l := bufconn.Listen(bufferSize)
		n.listeners[addr] = l
		out[i] = &listener{Listener: l, network: n, addr: address(addr)}
	}
	return out
}

func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: address(addr), Err: errNobody}
	}
	return l.DialContext(ctx)
}

// listener has an address that tells it from the others, and is off the network
// once it is closed.
type listener struct {
	*bufconn.Listener

	network *network
	addr    address
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &punctual{Conn: conn}, nil
}

func (l *listener) Close() error {
	l.network.mu.Lock()
	delete(l.network.listeners, string(l.addr))
	l.network.mu.Unlock()
	return l.Listener.Close()
}

// address is a "host:port" on the network.
type address string

func (address) Network() string  { return "memory" }
func (a address) String() string { return string(a) }
