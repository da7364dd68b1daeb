package client

import (
	"context"

	"plinth.internal/middleware"
)

type hashKeyKey struct{}

// WithHashKey gives the calls that are made with the context the key that
// [balancer.NameConsistentHash] picks by: calls with the same key go to the same
// instance, as far as load and health allow. Other policies ignore it. It wins
// over [Settings.HashHeader].
func WithHashKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, hashKeyKey{}, key)
}

// hashKey is the key of a call, "" for none.
func hashKey(ctx context.Context, call *middleware.Call, header string) string {
	if key, ok := ctx.Value(hashKeyKey{}).(string); ok {
		return key
	}
	if header == "" {
		return ""
	}
	return call.Header(header)
}
