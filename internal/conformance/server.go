package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"

	"plinth.internal/framework"
	"plinth.internal/internal/conformance/api"
)

// serve serves calls until ctx ends. It calls listening once, with its address,
// when it answers.
type serve func(ctx context.Context, opts []grpc.ServerOption, listening func(addr string) error) error

// runServer starts the server that the runner asks for and tells it where it is.
func runServer(ctx context.Context, in io.Reader, out io.Writer, run serve) error {
	var req api.ServerCompatRequest
	if err := readFrame(in, &req); err != nil {
		return fmt.Errorf("read what server to start: %w", err)
	}
	if req.GetProtocol() != api.Protocol_PROTOCOL_GRPC || req.GetHttpVersion() != api.HTTPVersion_HTTP_VERSION_2 || req.GetUseTls() {
		return errors.New("start server: the adapter is for gRPC over HTTP/2 without TLS; use testdata/config.yaml")
	}
	var opts []grpc.ServerOption
	if limit := req.GetMessageReceiveLimit(); limit > 0 {
		opts = append(opts, grpc.MaxRecvMsgSize(int(limit)))
	}
	return run(ctx, opts, func(addr string) error {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			return fmt.Errorf("read own address: %w", err)
		}
		return writeFrame(out, &api.ServerCompatResponse{Host: tcp.IP.String(), Port: uint32(tcp.Port)})
	})
}

// plinthServer is an app.
func plinthServer(logs io.Writer) serve {
	return func(ctx context.Context, opts []grpc.ServerOption, listening func(string) error) error {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		app, err := framework.New("conformance", func(_ context.Context, s *framework.Service) error {
			api.RegisterConformanceServiceServer(s, service{})
			return nil
		}, append(settings(logs),
			framework.WithSetting("server.grpc.addr", "127.0.0.1:0"),
			framework.WithServerOptions(opts...),
		)...)
		if err != nil {
			return err
		}
		told := make(chan error, 1)
		go func() {
			select {
			case <-app.Ready():
				err := listening(app.Endpoints()["grpc"])
				if err != nil {
					stop(err)
				}
				told <- err
			case <-ctx.Done():
				told <- nil
			}
		}()
		err = app.Run(ctx)
		stop(nil)
		return errors.Join(err, <-told)
	}
}

// bareServer is a server of grpc-go as it comes.
func bareServer(ctx context.Context, opts []grpc.ServerOption, listening func(string) error) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := listening(l.Addr().String()); err != nil {
		return errors.Join(err, l.Close())
	}
	s := grpc.NewServer(opts...)
	api.RegisterConformanceServiceServer(s, service{})
	defer context.AfterFunc(ctx, s.Stop)()
	return s.Serve(l)
}
