package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// The names of the contenders that something depends on.
const (
	nameBare   = "bare"
	namePlinth = "plinth"
	nameAll    = "all parts"
	nameNone   = "no parts"
	nameGoZero = "gozero"
)

// contender is one way to serve and to call. Its two functions run in processes
// of their own.
type contender struct {
	name  string
	about string
	// servers is how many instances there are, all in one process.
	servers int
	// without is the feature that is turned off, "" for none.
	without string
	// serve starts one server on loopback and returns its address.
	serve func(ctx context.Context) (addr string, err error)
	// dial connects to the servers; the first calls may fail while it does.
	dial func(ctx context.Context, addrs []string) (grpc.ClientConnInterface, error)
}

// everywhere reports whether the contender is measured in every cell; the others
// are in the one where features are compared.
func (c *contender) everywhere() bool {
	return c.without == "" && c.name != nameAll && c.name != nameNone
}

// contenders are all there are; the first is what the others are compared to.
func contenders() []contender {
	list := []contender{
		{name: nameBare, about: "grpc-go with default options on both sides", servers: 1, serve: serveBare, dial: dialBare},
		{name: namePlinth, about: "`framework.Run` with its defaults on both sides", servers: 1, serve: serveFramework, dial: dialFramework},
		{name: namePlinth + "-3", about: "the same, calling three instances", servers: 3, serve: serveFramework, dial: dialFramework},
		{name: nameGoZero, about: "go-zero v1.10.3, `zrpc` with its defaults on both sides but for shedding", servers: 1, serve: serveGoZero, dial: dialGoZero},
		parts(nameAll, "the chain of `plinth` put together from its packages: what those below leave something out of", ""),
	}
	for _, f := range features() {
		list = append(list, parts("-"+f.name, f.about, f.name))
	}
	return append(list, parts(nameNone, "every feature off at once: the adapters, the balancer and an empty retry loop", allFeatures))
}

func find(list []contender, name string) (contender, bool) {
	for _, c := range list {
		if c.name == name {
			return c, true
		}
	}
	return contender{}, false
}

func namesOf(list []contender) []string {
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.name
	}
	return names
}

func serveBare(ctx context.Context) (string, error) {
	l, err := listen(ctx)
	if err != nil {
		return "", err
	}
	s := grpc.NewServer()
	register(s)
	go func() { _ = s.Serve(l) }() // until the process ends
	return l.Addr().String(), nil
}

func dialBare(_ context.Context, addrs []string) (grpc.ClientConnInterface, error) {
	return grpc.NewClient(addrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
}
