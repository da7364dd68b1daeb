package client

import (
	"encoding/gob"
	"fmt"
	"net/rpc"
	"reflect"
	"sync"
)

// netRPCBuffer is how much memory for requests a connection keeps.
const netRPCBuffer = 64 << 10

// netRPCRequests encodes the requests of one connection into a buffer, so that
// nobody who makes a call waits for the network.
//
// A gob stream defines each type before its first value, and cannot take back
// what it has defined. So the arguments are encoded before the header: if they
// cannot be, nothing but definitions is left, which the next request takes along.
type netRPCRequests struct {
	mu     sync.Mutex
	enc    *gob.Encoder
	to     *[]byte // where enc writes to
	args   []byte  // encoded last
	out    []byte  // to be sent
	queued int64   // bytes that were ever put into out
	begun  int64   // bytes of those that were taken out again

	interfaces map[reflect.Type]bool // for rehearse
}

// Write is for the encoder.
func (r *netRPCRequests) Write(p []byte) (int, error) {
	*r.to = append(*r.to, p...)
	return len(p), nil
}

// init begins the stream with the definition of the header: arguments that
// contain one would otherwise define it after its first value.
func (r *netRPCRequests) init() error {
	r.enc = gob.NewEncoder(r)
	r.to = &r.out
	if err := r.enc.Encode(rpc.Request{}); err != nil {
		return err
	}
	r.to = &r.args
	if err := r.enc.Encode(rpc.Request{}); err != nil { // without the definition
		return err
	}
	r.out = r.out[:len(r.out)-len(r.args)]
	r.args = r.args[:0]
	r.queued = int64(len(r.out))
	return nil
}

// encode encodes arguments for the header that comes next. The caller has the
// lock, for this and for queue. A panic of a GobEncode becomes an error: calls are
// also made in goroutines of the client's own, where nobody could catch it.
func (r *netRPCRequests) encode(args any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("encode the arguments: a GobEncode or MarshalBinary in %T panicked: %v", args, p)
		}
	}()
	if v := reflect.ValueOf(args); v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("encode the arguments: they are a nil %T", args) // gob would panic
	}
	err = r.rehearse(args)
	if err == nil {
		r.to = &r.args
		err = r.enc.Encode(args)
	}
	if err != nil {
		return fmt.Errorf("encode the arguments: %w", err)
	}
	return nil
}

// queue puts a header and the arguments where take finds them.
func (r *netRPCRequests) queue(head rpc.Request) {
	before := len(r.out)
	r.to = &r.out
	_ = r.enc.Encode(head) // init has shown that it can be
	r.out = append(r.out, r.args...)
	r.queued += int64(len(r.out) - before)
	r.args = r.args[:0]
	if cap(r.args) > netRPCBuffer {
		r.args = nil
	}
}

// take returns what is to be sent, and keeps the other buffer for what comes.
func (r *netRPCRequests) take(other []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	buf := r.out
	r.out = other[:0]
	r.begun = r.queued
	return buf
}
