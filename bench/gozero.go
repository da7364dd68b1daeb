package main

import (
	"context"
	"net"
	"time"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/trace"
	"github.com/zeromicro/go-zero/zrpc"
	"google.golang.org/grpc"
)

// goZeroConf is what go-zero's own loader makes of an empty file, with traces on
// and not sampled, as for the others. The port of its admin pages, which is the
// same for every process, is off, and so is shedding: it would turn calls away
// because a benchmark keeps the processors busy. Its log goes where it does by
// default, to standard output, which is the null device here.
func goZeroConf(name, addr string) (zrpc.RpcServerConf, error) {
	var c zrpc.RpcServerConf
	if err := conf.FillDefault(&c); err != nil {
		return c, err
	}
	c.Name, c.ListenOn, c.DevServer.Enabled, c.CpuThreshold = name, addr, false, 0
	c.Telemetry = trace.Config{Name: name, Endpoint: "/dev/null", Sampler: 0, Batcher: "file"}
	return c, nil
}

func serveGoZero(ctx context.Context) (string, error) {
	// It takes no listener and does not tell the port that it got for port 0.
	l, err := listen(ctx)
	if err != nil {
		return "", err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", err
	}
	c, err := goZeroConf("echo", addr)
	if err != nil {
		return "", err
	}
	s, err := zrpc.NewServer(c, func(s *grpc.Server) { register(s) })
	if err != nil {
		return "", err
	}
	go s.Start()
	return addr, listening(ctx, addr)
}

// listening waits until somebody listens at the address: a client that comes too
// early waits for a second before it tries again.
func listening(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if wait(ctx, 10*time.Millisecond) != nil {
			return err
		}
	}
}

func dialGoZero(_ context.Context, addrs []string) (grpc.ClientConnInterface, error) {
	base, err := goZeroConf("caller", "")
	if err != nil {
		return nil, err
	}
	telemetry := base.ServiceConf
	if err := telemetry.SetUp(); err != nil { // as a service that calls another one does
		return nil, err
	}
	var c zrpc.RpcClientConf
	if err := conf.FillDefault(&c); err != nil {
		return nil, err
	}
	c.Endpoints = addrs
	cli, err := zrpc.NewClient(c)
	if err != nil {
		return nil, err
	}
	return cli.Conn(), nil
}
