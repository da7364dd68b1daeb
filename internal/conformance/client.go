package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"plinth.internal/framework"
	"plinth.internal/internal/conformance/api"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

// connect returns a connection to the server at an address.
type connect func(addr string) (*grpc.ClientConn, error)

// dialer gives connect to use until use has returned.
type dialer func(ctx context.Context, use func(connect) error) error

// runClient makes the calls that the runner asks for, several at a time, and
// tells it what came of each.
func runClient(ctx context.Context, in io.Reader, out io.Writer, dial dialer) error {
	return dial(ctx, func(connect connect) error {
		var (
			calls sync.WaitGroup
			slots = make(chan struct{}, 4*runtime.GOMAXPROCS(0)) // calls mostly wait

			mu     sync.Mutex // guards out and failed
			failed error
		)
		defer calls.Wait()
		conns := connections{connect: connect, byAddr: map[string]*grpc.ClientConn{}}
		for {
			req := new(api.ClientCompatRequest)
			if err := readFrame(in, req); err != nil {
				calls.Wait()
				if !errors.Is(err, io.EOF) {
					failed = errors.Join(failed, fmt.Errorf("read what call to make: %w", err))
				}
				return failed
			}
			conn, err := conns.get(req)
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			calls.Go(func() {
				defer func() { <-slots }()
				resp := &api.ClientCompatResponse{TestName: req.GetTestName()}
				var result *api.ClientResponseResult
				if err == nil {
					result, err = call(ctx, conn, req)
				}
				if err != nil {
					resp.Result = &api.ClientCompatResponse_Error{Error: &api.ClientErrorResult{Message: err.Error()}}
				} else {
					resp.Result = &api.ClientCompatResponse_Response{Response: result}
				}
				mu.Lock()
				defer mu.Unlock()
				if failed == nil {
					failed = writeFrame(out, resp)
				}
			})
		}
	})
}

// connections are those to the servers that the runner has started.
type connections struct {
	connect connect
	byAddr  map[string]*grpc.ClientConn
}

func (c *connections) get(req *api.ClientCompatRequest) (*grpc.ClientConn, error) {
	if req.GetProtocol() != api.Protocol_PROTOCOL_GRPC || req.GetHttpVersion() != api.HTTPVersion_HTTP_VERSION_2 ||
		req.GetCodec() != api.Codec_CODEC_PROTO || len(req.GetServerTlsCert()) > 0 {
		return nil, errors.New("make call: the adapter is for gRPC with protobuf over HTTP/2 without TLS; use testdata/config.yaml")
	}
	addr := net.JoinHostPort(req.GetHost(), strconv.FormatUint(uint64(req.GetPort()), 10))
	if conn := c.byAddr[addr]; conn != nil {
		return conn, nil
	}
	conn, err := c.connect(addr)
	if err == nil {
		c.byAddr[addr] = conn
	}
	return conn, err
}

// dialPlinth runs an app that calls; each server is a service of one instance.
// An app's default timeout is off: the suite checks that no call has a deadline
// that it did not ask for.
func dialPlinth(logs io.Writer) dialer {
	return func(ctx context.Context, use func(connect) error) (err error) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		reg := memory.Open(memory.NewStore())
		defer func() { err = errors.Join(err, reg.Close()) }()

		var service *framework.Service
		app, err := framework.New("conformance-client", func(_ context.Context, s *framework.Service) error {
			service = s
			return nil
		}, append(settings(logs),
			framework.WithRegistry(reg),
			framework.WithSetting("server.grpc.addr", ""),
			framework.WithSetting("clients.default.timeout", "-1s"),
		)...)
		if err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- app.Run(ctx) }()
		select {
		case <-app.Ready():
		case err := <-ended:
			return errors.Join(errors.New("start the client's app: it ended"), err)
		}
		err = use(func(addr string) (*grpc.ClientConn, error) {
			name := "at-" + strings.NewReplacer(".", "-", ":", "-", "[", "", "]", "").Replace(addr)
			inst := registry.Instance{ID: name, Service: name, Endpoints: map[string]string{"grpc": addr}}
			if err := reg.Announce(ctx, inst); err != nil {
				return nil, err
			}
			return service.Client(name)
		})
		stop()
		return errors.Join(err, <-ended)
	}
}

// dialBare makes connections of grpc-go as it comes.
func dialBare(_ context.Context, use func(connect) error) error {
	var conns []*grpc.ClientConn
	err := use(func(addr string) (*grpc.ClientConn, error) {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err == nil {
			conns = append(conns, conn)
		}
		return conn, err
	})
	for _, c := range conns {
		err = errors.Join(err, c.Close())
	}
	return err
}
