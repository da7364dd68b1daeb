package client

import (
	"bufio"
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// netRPCSilence is how long a connection that owes answers may be silent.
	// One whose other end is gone without a word stays open for many minutes.
	netRPCSilence = time.Second
	// netRPCAbandoned is how many answers that nobody waits for a connection
	// may owe.
	netRPCAbandoned = 100
	// netRPCConnected is what a server answers to CONNECT, as package net/rpc
	// has it.
	netRPCConnected = "200 Connected to Go RPC"
)

// dialNetRPC makes a connection, or gives up in time.
func dialNetRPC(ctx context.Context, s *service, key netRPCKey) (*netRPCConn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.settings("").connectTimeout())
	defer cancel()
	conn, err := s.dial(ctx, key.addr)
	if err == nil {
		conn, err = s.secured(ctx, conn)
	}
	if err != nil {
		return nil, err
	}
	source := &netRPCSource{conn: conn, made: time.Now()}
	r := bufio.NewReader(source)
	if key.path != "" {
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
		err := connectNetRPC(conn, r, key.path)
		if !stop() && err == nil {
			err = ctx.Err() // the deadline is set now, or will be
		}
		if err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("connect to net/rpc by CONNECT %s: %w", key.path, err)
		}
	}
	return newNetRPCConn(source, r)
}

// connectNetRPC turns an HTTP connection into one for net/rpc.
func connectNetRPC(w io.Writer, r *bufio.Reader, path string) error {
	if _, err := io.WriteString(w, "CONNECT "+path+" HTTP/1.0\n\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.Status != netRPCConnected {
		return fmt.Errorf("HTTP status %q instead of %q: check that the server calls rpc.HandleHTTP with this path", resp.Status, netRPCConnected)
	}
	return nil
}

// netRPCSource reads from the connection, and remembers what gob does not tell:
// when something last came, and whether the connection broke.
type netRPCSource struct {
	conn net.Conn
	made time.Time

	heard atomic.Int64 // nanoseconds after made
	err   error        // of the goroutine that reads
}

func (s *netRPCSource) Read(p []byte) (int, error) {
	n, err := s.conn.Read(p)
	if n > 0 {
		s.note()
	}
	s.err = err
	return n, err
}

func (s *netRPCSource) note() { s.heard.Store(int64(time.Since(s.made))) }
func (s *netRPCSource) silent() time.Duration {
	return time.Since(s.made) - time.Duration(s.heard.Load())
}

// netRPCConn is a connection that calls share: what rpc.Client is, but a call
// can be given up without waiting for the network, knows whether it was sent,
// and does not break the connection for others with values that gob refuses.
//
// It has two goroutines, read and write, which end when it has failed.
type netRPCConn struct {
	// Set at construction, never changed.
	conn   net.Conn
	source *netRPCSource
	dec    *gob.Decoder  // of read
	broken chan struct{} // closed when err is set
	wake   chan struct{} // there is something to write

	requests netRPCRequests // locked before mu

	mu        sync.Mutex
	err       error // why it broke
	retired   bool  // takes no new calls
	live      int   // calls between enter and leave
	seq       uint64
	pending   map[uint64]*netRPCPending // nil once it broke
	abandoned int                       // answers that are owed to nobody
}

// netRPCPending is a call that waits for its answer.
type netRPCPending struct {
	seq   uint64
	at    int64 // where in the stream its request begins
	reply any
	done  chan netRPCOutcome // gets one
}

// netRPCOutcome is how an attempt has ended on a connection.
type netRPCOutcome struct {
	err  error
	sent bool // something may have reached the server
	lost bool // the connection broke
}

// gobError is what gob says of values that it cannot bring over: the caller's
// mistake, for which no instance is to blame.
type gobError struct{ err error }

func (e *gobError) Error() string { return e.err.Error() }
func (e *gobError) Unwrap() error { return e.err }

func newNetRPCConn(source *netRPCSource, r *bufio.Reader) (*netRPCConn, error) {
	c := &netRPCConn{
		conn: source.conn, source: source, dec: gob.NewDecoder(r),
		broken: make(chan struct{}), wake: make(chan struct{}, 1), pending: map[uint64]*netRPCPending{},
	}
	return c, c.requests.init()
}

// enter counts a call in; false means that the connection takes none.
func (c *netRPCConn) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.retired {
		return false
	}
	c.live++
	return true
}

// cause is why the connection takes no more calls.
func (c *netRPCConn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.err, rpc.ErrShutdown)
}

func (c *netRPCConn) leave() {
	c.mu.Lock()
	c.live--
	last := c.retired && c.live == 0
	c.mu.Unlock()
	if last {
		c.fail(rpc.ErrShutdown)
	}
}

// retire lets no new calls in, and ends the connection with its last one.
func (c *netRPCConn) retire() {
	c.mu.Lock()
	c.retired = true
	last := c.live == 0
	c.mu.Unlock()
	if last {
		c.fail(rpc.ErrShutdown)
	}
}

// call makes a call. It does not wait for the network longer than ctx lasts.
func (c *netRPCConn) call(ctx context.Context, serviceMethod string, args, reply any) netRPCOutcome {
	p := &netRPCPending{reply: reply, done: make(chan netRPCOutcome, 1)}
	if err := c.send(p, serviceMethod, args); err != nil {
		return netRPCOutcome{err: err, lost: errors.Is(err, rpc.ErrShutdown)}
	}
	select {
	case o := <-p.done:
		return o
	case <-ctx.Done():
	}
	c.abandon(p)
	select {
	case o := <-p.done: // it came at the same moment
		return o
	default:
		return netRPCOutcome{err: ctx.Err(), sent: true} // or will be
	}
}

// send encodes a request and leaves it to write. The arguments are not needed
// any more then.
func (c *netRPCConn) send(p *netRPCPending, serviceMethod string, args any) error {
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	if err := c.requests.encode(args); err != nil {
		return &gobError{err}
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return rpc.ErrShutdown
	}
	if len(c.pending)+c.abandoned == 0 {
		c.source.note() // it owes nothing until now
	}
	c.seq++
	p.seq, p.at = c.seq, c.requests.queued
	c.pending[p.seq] = p
	c.mu.Unlock()
	c.requests.queue(rpc.Request{ServiceMethod: serviceMethod, Seq: p.seq})
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// abandon gives a call up. The answer is dropped when it comes.
func (c *netRPCConn) abandon(p *netRPCPending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[p.seq] == nil {
		return // it has just been answered
	}
	delete(c.pending, p.seq)
	c.abandoned++
	if c.abandoned >= netRPCAbandoned || c.source.silent() >= netRPCSilence {
		c.retired = true // leave does the rest
	}
}

// take finds the call that an answer is for, nil if nobody waits for it.
func (c *netRPCConn) take(seq uint64) *netRPCPending {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending[seq]
	if p != nil {
		delete(c.pending, seq)
	} else {
		c.abandoned = max(0, c.abandoned-1)
	}
	return p
}

// read hands out the answers until the connection ends.
func (c *netRPCConn) read() {
	for {
		var head rpc.Response
		if err := c.dec.Decode(&head); err != nil {
			c.fail(c.readError(err))
			return
		}
		p := c.take(head.Seq)
		var reply any // nil has the value passed over
		if p != nil && head.Error == "" {
			reply = p.reply
		}
		err := c.decode(reply)
		o := netRPCOutcome{sent: true}
		switch {
		case err != nil && c.source.err != nil:
			o.err, o.lost = c.readError(err), true
		case head.Error != "":
			o.err = rpc.ServerError(head.Error)
		case err != nil:
			o.err = &gobError{fmt.Errorf("decode the reply: %w", err)}
		}
		if p != nil {
			p.done <- o
		}
		if o.lost {
			c.fail(o.err)
			return
		}
	}
}

// decode reads a reply. A panic of a GobDecode in the type that the caller wants
// becomes an error: it must not end the process.
func (c *netRPCConn) decode(reply any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a GobDecode or UnmarshalBinary in %T panicked: %v", reply, p)
		}
	}()
	return c.dec.Decode(reply)
}

// readError makes an error for a person of what ended the connection.
func (c *netRPCConn) readError(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("read the reply: the server has ended the connection: %w", io.ErrUnexpectedEOF)
	case c.source.err == nil:
		return fmt.Errorf("read the reply: check that this port speaks net/rpc with gob: %w", err)
	}
	return fmt.Errorf("read the reply: %w", err)
}

// write sends the requests until the connection has failed.
func (c *netRPCConn) write() {
	var buf []byte
	for {
		select {
		case <-c.wake:
		case <-c.broken:
			return
		}
		buf = c.requests.take(buf)
		if _, err := c.conn.Write(buf); err != nil {
			c.fail(fmt.Errorf("send the request: %w", err))
			return
		}
		if cap(buf) > netRPCBuffer {
			buf = nil
		}
	}
}

// fail ends the connection and all calls that wait on it. The first reason
// counts.
func (c *netRPCConn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
		close(c.broken)
	}
	err = c.err
	c.mu.Unlock()
	_ = c.conn.Close() // before anything is called unsent
	c.requests.mu.Lock()
	begun := c.requests.begun
	c.requests.mu.Unlock()
	c.mu.Lock()
	pending := c.pending
	c.pending = nil // err keeps send from adding to it
	c.mu.Unlock()
	for _, p := range pending {
		p.done <- netRPCOutcome{err: err, sent: p.at < begun, lost: true}
	}
}
