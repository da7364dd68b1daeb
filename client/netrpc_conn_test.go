package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"io"
	"net"
	"net/rpc"
	"testing"
	"testing/synctest"
	"time"
)

// netRPCPair is a connection and the other end of it. What fake servers do is
// up to the test.
func netRPCPair(t *testing.T) (*netRPCConn, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	source := &netRPCSource{conn: near, made: time.Now()}
	c, err := newNetRPCConn(source, bufio.NewReader(source))
	if err != nil {
		t.Fatal(err)
	}
	go c.read()
	go c.write()
	t.Cleanup(func() {
		c.fail(rpc.ErrShutdown)
		_ = far.Close()
		synctest.Wait()
	})
	return c, far
}

// answer reads one request and answers it after the delay, with what it was sent.
func answer(dec *gob.Decoder, enc *gob.Encoder, delay time.Duration) error {
	var head rpc.Request
	var args string
	if err := errors.Join(dec.Decode(&head), dec.Decode(&args)); err != nil {
		return err
	}
	time.Sleep(delay) //nolint:forbidigo // the bubble's clock
	return errors.Join(enc.Encode(rpc.Response{Seq: head.Seq}), enc.Encode(args))
}

func callFor(t *testing.T, c *netRPCConn, d time.Duration) netRPCOutcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if !c.enter() {
		return netRPCOutcome{err: errors.New("no entry")}
	}
	defer c.leave()
	var reply string
	o := c.call(ctx, "S.M", "x", &reply)
	if o.err == nil && reply != "x" {
		t.Errorf("the reply is %q", reply)
	}
	return o
}

// TestNetRPCConnSilence: a connection that owes answers and says nothing for a
// second is given up; one that only had nothing to say is not.
func TestNetRPCConnSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := netRPCPair(t)
		enc := gob.NewEncoder(far)
		dec := gob.NewDecoder(far)
		served := make(chan error, 1)
		go func() { served <- answer(dec, enc, 0) }()
		if o := callFor(t, c, time.Second); o.err != nil || !o.sent {
			t.Fatalf("the first call: %+v", o)
		}
		if err := <-served; err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, far) }() // from now on it is mute
		pause(time.Hour)
		if o := callFor(t, c, netRPCSilence/2); !errors.Is(o.err, context.DeadlineExceeded) || !o.sent || o.lost {
			t.Errorf("a call that times out: %+v", o)
		}
		if retired, _, _, _ := state(c); retired {
			t.Error("the connection is given up after half a second")
		}
		pause(time.Hour)
		other := make(chan netRPCOutcome)
		go func() { other <- callFor(t, c, time.Minute) }()
		synctest.Wait()
		if o := callFor(t, c, time.Millisecond); !errors.Is(o.err, context.DeadlineExceeded) {
			t.Errorf("a call that times out: %+v", o)
		}
		if retired, _, _, _ := state(c); !retired || c.enter() {
			t.Error("the connection is still used")
		}
		synctest.Wait()
		if _, err, _, _ := state(c); err != nil {
			t.Errorf("it was ended before its last call: %v", err)
		}
		if o := <-other; !errors.Is(o.err, context.DeadlineExceeded) {
			t.Errorf("the last call: %+v", o)
		}
		synctest.Wait()
		if _, err, _, _ := state(c); err == nil {
			t.Error("it was not ended with its last call")
		}
	})
}

// state is what a connection has come to: whether it takes calls, why it broke,
// and how many answers it owes to somebody and to nobody.
func state(c *netRPCConn) (retired bool, err error, pending, abandoned int) { //nolint:staticcheck // the error is a state, not an outcome
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.retired, c.err, len(c.pending), c.abandoned
}

func pause(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // the bubble's clock

// TestNetRPCConnAbandoned: a connection may owe so many answers to nobody, and
// answers that come late are taken off.
func TestNetRPCConnAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := netRPCPair(t)
		enc := gob.NewEncoder(far)
		dec := gob.NewDecoder(far)
		for range netRPCAbandoned { // each late, so none too many
			served := make(chan error, 1)
			go func() { served <- answer(dec, enc, 20*time.Millisecond) }()
			if o := callFor(t, c, 10*time.Millisecond); !errors.Is(o.err, context.DeadlineExceeded) {
				t.Fatalf("%+v", o)
			}
			if err := <-served; err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if _, _, pending, abandoned := state(c); pending != 0 || abandoned != 0 {
				t.Fatalf("it owes %d and %d answers", pending, abandoned)
			}
		}
		go func() { _, _ = io.Copy(io.Discard, far) }()
		for i := range netRPCAbandoned {
			if o := callFor(t, c, time.Millisecond); !errors.Is(o.err, context.DeadlineExceeded) {
				t.Fatalf("call %d: %+v", i, o)
			}
		}
		if c.enter() {
			t.Error("it takes calls although it owes so many answers")
		}
	})
}

// TestNetRPCConnUnsent: what was still waiting to be written when the connection
// broke was not sent, what was being written may have been.
func TestNetRPCConnUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := netRPCPair(t)
		outcomes := make(chan netRPCOutcome, 2)
		for range 2 {
			go func() { outcomes <- callFor(t, c, time.Minute) }()
			synctest.Wait() // the pipe has no room: the first is being written, the second waits
		}
		_ = far.Close()
		sent := 0
		for range 2 {
			o := <-outcomes
			if !o.lost || o.err == nil {
				t.Errorf("the call ended as %+v", o)
			}
			if o.sent {
				sent++
			}
		}
		if sent != 1 {
			t.Errorf("%d of the calls count as sent, want 1", sent)
		}
		if o := c.call(t.Context(), "S.M", "x", nil); o.sent || !o.lost || !errors.Is(o.err, rpc.ErrShutdown) {
			t.Errorf("a call afterwards: %+v", o)
		}
	})
}

// TestNetRPCRequests: the stream is one that a server can read, also after
// arguments that could not be encoded, and with some that contain a header.
func TestNetRPCRequests(t *testing.T) {
	type inner struct{ N int }
	type wrapped struct {
		Head rpc.Request
		In   []inner
		Any  any
	}
	var r netRPCRequests
	if err := r.init(); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	dec := gob.NewDecoder(&stream)
	for i, args := range []any{"x", wrapped{Any: inner{1}}, wrapped{Head: rpc.Request{Seq: 5}, In: []inner{{1}}}, &inner{2}, func() {}, inner{3}} {
		if err := r.encode(args); err != nil {
			if _, ok := args.(wrapped); !ok && i != 4 {
				t.Errorf("arguments %d: %v", i, err)
			}
			continue
		}
		r.queue(rpc.Request{ServiceMethod: "S.M", Seq: uint64(i)})
		stream.Write(r.take(nil))
		var head rpc.Request
		if err := dec.Decode(&head); err != nil || head.Seq != uint64(i) || head.ServiceMethod != "S.M" {
			t.Fatalf("header %d is %+v, %v", i, head, err)
		}
		var err error
		switch i {
		case 0:
			var s string
			if err = dec.Decode(&s); s != "x" {
				t.Errorf("arguments %d are %q", i, s)
			}
		case 2:
			var w wrapped
			if err = dec.Decode(&w); w.Head.Seq != 5 || len(w.In) != 1 {
				t.Errorf("arguments %d are %+v", i, w)
			}
		default:
			var n inner
			if err = dec.Decode(&n); n.N != i-1 && i != 5 || i == 5 && n.N != 3 {
				t.Errorf("arguments %d are %+v", i, n)
			}
		}
		if err != nil {
			t.Fatalf("arguments %d: %v", i, err)
		}
	}
	if r.queued != r.begun || stream.Len() != 0 || len(r.out) != 0 {
		t.Errorf("%d bytes of %d were taken, %d are left", r.begun, r.queued, stream.Len())
	}
}

// FuzzNetRPCReply: whatever a server sends, a call ends and nothing breaks.
func FuzzNetRPCReply(f *testing.F) {
	good := func(replies ...any) []byte {
		var b bytes.Buffer
		enc := gob.NewEncoder(&b)
		for _, r := range replies {
			_ = enc.Encode(r)
		}
		return b.Bytes()
	}
	f.Add([]byte{})
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add(good(rpc.Response{Seq: 1}, "x"))
	f.Add(good(rpc.Response{Seq: 1}, 7))
	f.Add(good(rpc.Response{Seq: 2}, "x", rpc.Response{Seq: 1, Error: "no"}, struct{}{}))
	f.Add(good(rpc.Response{Seq: 1}))
	f.Fuzz(func(t *testing.T, reply []byte) {
		synctest.Test(t, func(t *testing.T) {
			c, far := netRPCPair(t)
			go func() { _, _ = io.Copy(io.Discard, far) }()
			go func() {
				_, _ = far.Write(reply)
				_ = far.Close()
			}()
			if !c.enter() {
				return // garbage was faster
			}
			defer c.leave()
			var s string
			o := c.call(t.Context(), "S.M", "x", &s)
			if o.err != nil && s != "" && !o.lost {
				t.Errorf("the reply is %q with %v", s, o.err)
			}
		})
	})
}
