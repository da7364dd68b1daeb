package framework

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"plinth.internal/middleware"
)

// WithValidator has every message that a handler receives checked first, over gRPC
// unary and streams, and through the gateway: validate.New of middleware/validate
// for the protovalidate rules of the proto. A message that is not valid is
// INVALID_ARGUMENT. Unless it is given nothing is checked. A validator with a method
// Warm(protoreflect.MessageDescriptor) error is given the requests of all
// registered services at the start, which ends with its error.
func WithValidator(v middleware.Validator) Option {
	return optionFunc(func(o *options) { o.validator = v })
}

// warmer compiles the rules of a type of message ahead.
type warmer interface {
	Warm(md protoreflect.MessageDescriptor) error
}

// unaryPayload is what sees the requests of unary calls.
func (o *options) unaryPayload() []grpc.UnaryServerInterceptor {
	if o.validator == nil {
		return nil
	}
	return []grpc.UnaryServerInterceptor{middleware.ValidateUnary(o.validator)}
}

// streamPayload is what sees the messages of streams.
func (o *options) streamPayload() []grpc.StreamServerInterceptor {
	if o.validator == nil {
		return nil
	}
	return []grpc.StreamServerInterceptor{middleware.ValidateStream(o.validator)}
}

// warmValidator compiles the rules of all requests, so that what does not compile
// ends the start instead of calls. Services whose proto is not linked into the
// program are left out.
func (a *App) warmValidator() error {
	w, ok := a.opts.validator.(warmer)
	if !ok {
		return nil
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.server.Services())) {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			continue
		}
		sd, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			continue
		}
		for i := range sd.Methods().Len() {
			m := sd.Methods().Get(i)
			if err := w.Warm(m.Input()); err != nil {
				errs = append(errs, fmt.Errorf("validate requests of %s/%s: %w", name, m.Name(), err))
			}
		}
	}
	return errors.Join(errs...)
}
