package client_test

import (
	"net/rpc"
	"testing"

	"plinth.internal/client"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

// BenchmarkNetRPC is a call through the whole chain beside one by rpc.Client.
func BenchmarkNetRPC(b *testing.B) {
	s := newRPCServer(b, "a", "127.0.0.1:0")
	b.Run("plinth", func(b *testing.B) {
		reg := memory.Open(memory.NewStore())
		defer func() { _ = reg.Close() }()
		if err := reg.Announce(b.Context(), registry.Instance{ID: "a", Service: "echo", Endpoints: map[string]string{"netrpc": s.addr}}); err != nil {
			b.Fatal(err)
		}
		c, err := client.New(reg)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		n, err := c.NetRPC("echo")
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := said(b.Context(), n, "x"); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("rpc.Client", func(b *testing.B) {
		c, err := rpc.Dial("tcp", s.addr)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				var reply string
				if err := c.Call(say, "x", &reply); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
