package middleware

import "context"

// WithValue is [context.WithValue] for the contexts of this call. Unary calls and
// streams of a gRPC server have room for two values, which saves the allocations of
// the middlewares that give one to every call. Contexts with a value keep the call in
// memory, without its messages, for as long as they are used.
func (c *Call) WithValue(ctx context.Context, key, value any) context.Context {
	if t, ok := c.transport.(interface{ room() []valueContext }); ok {
		room := t.room()
		for i := range room {
			if v := &room[i]; v.Context == nil {
				*v = valueContext{ctx, key, value}
				return v
			}
		}
	}
	return context.WithValue(ctx, key, value)
}

func (c *grpcServerCall) room() []valueContext { return c.values[:] }

// valueContext is a context with a value. It is part of a call, and so is written
// once: a call is never used again for another one.
type valueContext struct {
	context.Context

	key, value any
}

func (c *valueContext) Value(key any) any {
	if key == c.key {
		return c.value
	}
	return c.Context.Value(key)
}
