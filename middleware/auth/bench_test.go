package auth_test

import (
	"context"
	"strconv"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"plinth.internal/internal/tlsfiles/tlstest"
	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
)

// BenchmarkCall is a unary call on a server: without auth, by certificate, by a token
// that is remembered, and by one that is new each time.
func BenchmarkCall(b *testing.B) {
	info := &grpc.UnaryServerInfo{FullMethod: "/" + method}
	handler := func(context.Context, any) (any, error) { return nil, nil }
	run := func(b *testing.B, ctx func(i int) context.Context, ms ...middleware.Middleware) {
		b.Helper()
		serve := middleware.UnaryServer(ms...)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := serve(ctx(i), nil, info, handler); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("off", func(b *testing.B) { run(b, func(int) context.Context { return b.Context() }) })
	b.Run("certificate", func(b *testing.B) {
		ctx := withCert(b.Context(), certificate(b, tlstest.NewAuthority(b, "a"), "front"), true)
		run(b, func(int) context.Context { return ctx }, build(b, auth.Config{Policy: anyone()}).Middleware())
	})
	for _, algorithm := range []string{"ES256", "RS256", "EdDSA"} {
		s := newSigner(b, "k", algorithm)
		a := build(b, auth.Config{Issuers: []auth.Issuer{corp(keyFile(b, s))}, Policy: anyone()})
		with := func(token string) context.Context {
			return metadata.NewIncomingContext(b.Context(), metadata.Pairs("authorization", "Bearer "+token))
		}
		b.Run(algorithm+"/remembered", func(b *testing.B) {
			ctx := with(s.sign(b, claims(nil)))
			run(b, func(int) context.Context { return ctx }, a.Middleware())
		})
		b.Run(algorithm+"/new", func(b *testing.B) {
			tokens := make([]string, 8192) // more than are remembered
			for i := range tokens {
				tokens[i] = s.sign(b, claims(map[string]any{"jti": strconv.Itoa(i)}))
			}
			run(b, func(i int) context.Context { return with(tokens[i%len(tokens)]) }, a.Middleware())
		})
	}
}
