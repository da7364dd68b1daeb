package framework

import (
	"errors"
	"fmt"
	"runtime/debug"

	"plinth.internal/internal/errtext"
)

// panicError is a panic that was caught, with its stack.
type panicError struct {
	value any
	stack []byte
}

func newPanicError(value any) *panicError {
	if err, ok := value.(error); ok {
		if broken := errtext.Check(err); broken != nil {
			value = broken
		}
	}
	return &panicError{value: value, stack: debug.Stack()}
}

func (p *panicError) Error() string {
	return fmt.Sprintf("panic: %s\n%s", errtext.Value(p.value), p.stack)
}

// Unwrap is the value if that is an error.
func (p *panicError) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// unpanic parts a panic from its stack, for those who show the two apart; any
// other error is returned as it is.
func unpanic(err error) (stack []byte, short error) {
	p, ok := errors.AsType[*panicError](err)
	if !ok {
		return nil, err
	}
	if inner := p.Unwrap(); inner != nil {
		return p.stack, fmt.Errorf("panic: %w", inner)
	}
	return p.stack, errors.New("panic: " + errtext.Value(p.value))
}
