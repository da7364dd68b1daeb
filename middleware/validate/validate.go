// Package validate checks messages against the protovalidate rules of their proto
// (buf/validate/validate.proto), for middleware.ValidateUnary and
// framework.WithValidator.
//
// It is a package of its own because the rules are written in CEL, whose compiler
// is larger than the rest of a service: who does not import it does not link it.
//
// Guarantees: what is wrong with a request is INVALID_ARGUMENT with the reason
// [Invalid] and one google.rpc.BadRequest field violation for each broken rule; rules
// that do not compile, or cannot be evaluated, are INTERNAL with the reason
// [Broken] and never the caller's fault; [Validator.Warm] finds the former before
// the first call. A Validator may be used by any number of goroutines. It keeps the
// compiled rules of each type of message that it has seen.
package validate

import (
	"errors"
	"fmt"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"plinth.internal/apierror"
)

// The reasons of the errors, in [Domain].
const (
	Domain = apierror.Domain("plinth.internal")
	// Invalid says that the request breaks rules.
	Invalid = "INVALID_REQUEST"
	// Broken says that the rules cannot be checked.
	Broken = "VALIDATION_BROKEN"
)

// Validator checks messages.
type Validator struct {
	rules protovalidate.Validator
	err   error // of making it
}

// New makes a validator. Where the options cannot be, [Validator.Warm] and every
// check err, so that a service does not start.
func New(opts ...protovalidate.ValidatorOption) *Validator {
	rules, err := protovalidate.New(opts...)
	if err != nil {
		err = fmt.Errorf("make validator: %w", err)
	}
	return &Validator{rules: rules, err: err}
}

// Validate checks a message; see the package documentation for the errors.
func (v *Validator) Validate(m proto.Message) error {
	err := v.err
	if err == nil {
		err = v.rules.Validate(m)
	}
	if err == nil {
		return nil
	}
	wrong, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return Domain.New(codes.Internal, Broken, "the validation rules of "+string(m.ProtoReflect().Descriptor().FullName())+" cannot be checked",
			apierror.Cause(err))
	}
	violations := make([]apierror.Violation, 0, len(wrong.Violations))
	for _, w := range wrong.Violations {
		violations = append(violations, violation(w))
	}
	return Domain.New(codes.InvalidArgument, Invalid, summary(violations), apierror.Violations(violations...))
}

func violation(w *protovalidate.Violation) apierror.Violation {
	rule := w.Proto.GetRuleId()
	out := apierror.Violation{
		Field: protovalidate.FieldPathString(w.Proto.GetField()), Reason: upperSnake(rule), Description: w.Proto.GetMessage(),
	}
	if out.Description == "" {
		out.Description = "breaks the rule " + rule
	}
	return out
}

// upperSnake makes "string.min_len" what a google.rpc reason looks like.
func upperSnake(rule string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, rule)
}

// summary is the first violation and the number of the others.
func summary(vs []apierror.Violation) string {
	if len(vs) == 0 {
		return "the request is not valid"
	}
	text := vs[0].Description
	if vs[0].Field != "" {
		text = vs[0].Field + ": " + text
	}
	if n := len(vs) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}

// Warm compiles the rules of a type of message and of all that it can contain, so
// that no call waits for it. It errs on rules that do not compile, naming the
// message and the field.
func (v *Validator) Warm(md protoreflect.MessageDescriptor) error {
	if v.err != nil {
		return v.err
	}
	return v.warm(md, map[protoreflect.FullName]bool{})
}

func (v *Validator) warm(md protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) error {
	if seen[md.FullName()] {
		return nil
	}
	seen[md.FullName()] = true
	var errs []error
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if fd.IsMap() {
			fd = fd.MapValue()
		}
		if inner := fd.Message(); inner != nil {
			errs = append(errs, v.warm(inner, seen))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err // what contains it does not compile for the same reason
	}
	empty := dynamicpb.NewMessage(md)
	err := v.rules.Validate(empty)
	if _, broken := errors.AsType[*protovalidate.CompilationError](err); !broken {
		return nil // an empty message may well break rules
	}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		only := protovalidate.FilterFunc(func(_ protoreflect.Message, d protoreflect.Descriptor) bool { return d == fd })
		fieldErr := v.rules.Validate(empty, protovalidate.WithFilter(only))
		if _, broken := errors.AsType[*protovalidate.CompilationError](fieldErr); broken {
			errs = append(errs, fmt.Errorf("compile the validation rules of field %s of %s: %w", fd.Name(), md.FullName(), fieldErr))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return fmt.Errorf("compile the validation rules of message %s: %w", md.FullName(), err)
}
