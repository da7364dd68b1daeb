//go:build linux

package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/rpc"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/middleware"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
)

// The transports over which a fleet is called.
const (
	overGRPC   = "" // the usual one
	overHTTP   = "HTTP"
	overNetRPC = "net/rpc"
)

// The ports of an instance, on a host of its own.
var workPorts = map[string]string{overGRPC: "17000", overHTTP: "17001", overNetRPC: "17002"}

const (
	workPath   = "/work"
	workNetRPC = "Work.Do"
	// netRPCVariable tells a worker to be a net/rpc server as well.
	netRPCVariable = "CHAOS_NETRPC"
	// pushback is how a server that sheds load says that another may be asked.
	pushback = "grpc-retry-pushback-ms"
)

// ServeHTTP serves the call in the form value "call".
func (w *worker) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	out, err := w.Do(r.Context(), wrapperspb.String(r.FormValue("call")))
	if err != nil {
		if status.Code(err) == codes.ResourceExhausted {
			rw.Header().Set("Grpc-Retry-Pushback-Ms", "0") // pushback, as net/http has it
		}
		http.Error(rw, err.Error(), middleware.HTTPStatusOf(err))
		return
	}
	_, _ = rw.Write([]byte(out.GetValue())) // the caller may have gone
}

// netRPCWorker is the handler as package net/rpc wants it.
type netRPCWorker struct{ worker *worker }

// Do serves a call.
func (n netRPCWorker) Do(in string, out *string) error {
	reply, err := n.worker.Do(context.Background(), wrapperspb.String(in))
	*out = reply.GetValue()
	return err
}

// shedOverNetRPC is the code of what a worker answers over net/rpc: that it sheds
// load is the one thing that its text says.
func shedOverNetRPC(_ string, err rpc.ServerError) codes.Code {
	if strings.Contains(string(err), codes.ResourceExhausted.String()) {
		return codes.ResourceExhausted
	}
	return codes.OK
}

// netRPCSpec says where a worker listens for net/rpc and where it is announced.
type netRPCSpec struct {
	Addr      string        `json:"addr"`
	Etcd      string        `json:"etcd"`
	Namespace string        `json:"namespace"`
	TTL       time.Duration `json:"ttl"`
}

// serveNetRPC serves net/rpc, if the worker is to do so, in the way of any program
// that has nothing but the standard library; and announces it by hand.
func (w *worker) serveNetRPC() error {
	text := os.Getenv(netRPCVariable)
	if text == "" {
		return nil
	}
	var spec netRPCSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	server := rpc.NewServer()
	if err := server.RegisterName("Work", netRPCWorker{w}); err != nil {
		return err
	}
	l, err := net.Listen("tcp", spec.Addr)
	if err != nil {
		return err
	}
	go server.Accept(l)
	if spec.Etcd == "" {
		return nil
	}
	c, err := etcd.Dial(etcd.Config{Endpoints: []string{spec.Etcd}})
	if err != nil {
		return err
	}
	reg := etcd.Open(c, etcd.WithNamespace(spec.Namespace), etcd.WithRegistry(registry.WithTTL(spec.TTL)))
	id := fmt.Sprintf("classic-%d", os.Getpid())
	err = reg.Announce(context.Background(), registry.Instance{
		ID: id, Service: workService, Endpoints: map[string]string{"netrpc": spec.Addr}, Started: time.Now(),
	})
	if err != nil {
		return errors.Join(err, reg.Close())
	}
	return nil
}
