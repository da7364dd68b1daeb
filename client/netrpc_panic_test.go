package client_test

import (
	"context"
	"errors"
	"net"
	"net/rpc"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/client/breaker"
	"plinth.internal/middleware"
	"plinth.internal/registry"
)

// Explosive cannot be decoded, nor encoded while it is armed.
type Explosive struct{ Armed bool }

// GobEncode panics in the goroutine of the call.
func (e Explosive) GobEncode() ([]byte, error) {
	if e.Armed {
		panic("as the test wants it")
	}
	return []byte{1}, nil
}

// GobDecode panics in a goroutine that belongs to nobody's call.
func (*Explosive) GobDecode([]byte) error { panic("as the test wants it") }

// Explode answers with what its caller cannot decode.
func (HelloService) Explode(string, *Explosive) error { return nil }

// TestNetRPCPanic: the caller's own code panics in the one trial that the breaker
// allows. Nobody is to blame, and nothing is left behind: no call in flight, and no
// trial that is never over.
func TestNetRPCPanic(t *testing.T) {
	for name, tt := range map[string]struct {
		method   string
		args     any
		recovers bool // the call returns
	}{
		"in the arguments":          {say, Explosive{Armed: true}, true},
		"deep in the arguments":     {say, []Explosive{{}, {Armed: true}}, true},
		"in the reply":              {"HelloService.Explode", "x", true},
		"in the function for codes": {say, "panic", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &rpcServer{id: "a"}
				s.fail(func(name string) error {
					if name == "x" {
						return nil
					}
					return errors.New(name)
				})
				server := rpc.NewServer()
				if err := server.Register(HelloService{s}); err != nil {
					t.Fatal(err)
				}
				w := newWorld(t, client.WithDialer(func(context.Context, string) (net.Conn, error) {
					s.dials.Add(1)
					near, far := net.Pipe()
					go server.ServeConn(far)
					return near, nil
				}), client.WithSettings(func(string, string) client.Settings {
					return client.Settings{Breaker: breaker.Config{Policy: breaker.PolicyClassic, MinCalls: 1, Trials: 1, OpenFor: time.Minute}}
				}))
				w.announce(t, registry.Instance{ID: "a", Endpoints: map[string]string{"netrpc": "a:1"}})
				n := w.netrpc(t, client.WithServerErrorCode(func(_ string, err rpc.ServerError) codes.Code {
					if err == "panic" {
						panic(err)
					}
					return codes.Internal
				}))
				if _, err := said(t.Context(), n, "opens the breaker"); middleware.Code(err) != codes.Internal {
					t.Fatalf("the call that fails: %v", err)
				}
				pause(t.Context(), time.Minute+time.Second)
				func() {
					defer func() {
						if p := recover(); (p == nil) != tt.recovers {
							t.Errorf("the call panicked with %v", p)
						}
					}()
					err := n.Call(t.Context(), tt.method, tt.args, new(Explosive))
					if middleware.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "panicked: as the test wants it") {
						t.Errorf("error is %v", err)
					}
				}()
				if e := w.explained(t).Instances[0]; e.InFlight != 0 {
					t.Errorf("%d calls are in flight", e.InFlight)
				}
				if got, err := said(t.Context(), n, "x"); err != nil || got != "a: x" {
					t.Errorf("the next call was answered %q, %v", got, err)
				}
				if got := s.dials.Load(); got != 1 {
					t.Errorf("it took %d connections", got)
				}
			})
		})
	}
}
