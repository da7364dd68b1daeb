package dns

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// life learns how long answers may be used, which net.Resolver does not tell:
// it reads along on the connections to the DNS servers. What it cannot read is
// left to the resolver to judge. A forged answer can at most make the next
// lookup come early.
type life struct {
	mu    sync.Mutex
	ttl   uint32
	known bool
}

// shortest returns the shortest time to live; negative if there is none.
func (l *life) shortest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known {
		return -1
	}
	return time.Duration(l.ttl) * time.Second
}

func (l *life) see(message []byte) {
	ttl, ok := answerTTL(message)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known || ttl < l.ttl {
		l.ttl, l.known = ttl, true
	}
}

// answerTTL returns the shortest time to live of a message's answers; false if
// it has none or is no message.
func answerTTL(message []byte) (shortest uint32, ok bool) {
	var p dnsmessage.Parser
	if _, err := p.Start(message); err != nil {
		return 0, false
	}
	if err := p.SkipAllQuestions(); err != nil {
		return 0, false
	}
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return shortest, ok // the end, or no more that can be read
		}
		if !ok || h.TTL < shortest {
			shortest, ok = h.TTL, true
		}
		if err := p.SkipAnswer(); err != nil {
			return shortest, ok
		}
	}
}

// observe returns the connection with life reading along. It is closed when
// ctx ends: the resolver itself would wait for its own timeout.
func (l *life) observe(ctx context.Context, conn net.Conn) net.Conn {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // its error is of no use to anybody
	if udp, ok := conn.(*net.UDPConn); ok {
		return &packets{UDPConn: udp, life: l, stop: stop}
	}
	return &stream{Conn: conn, life: l, stop: stop}
}

// packets is a connection whose every read is a message. The resolver tells it
// from a stream by its being a net.PacketConn.
type packets struct {
	*net.UDPConn

	life *life
	stop func() bool
}

func (p *packets) Read(b []byte) (int, error) {
	n, err := p.UDPConn.Read(b)
	if err == nil {
		p.life.see(b[:n])
	}
	return n, err
}

func (p *packets) Close() error {
	p.stop()
	return p.UDPConn.Close()
}

// stream is a connection where each message follows its length.
type stream struct {
	net.Conn

	life *life
	stop func() bool
	buf  []byte // of a message, as far as it has come
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.buf = append(s.buf, b[:n]...)
	for len(s.buf) >= 2 {
		end := 2 + int(binary.BigEndian.Uint16(s.buf))
		if len(s.buf) < end {
			break
		}
		s.life.see(s.buf[2:end])
		s.buf = s.buf[end:]
	}
	return n, err
}

func (s *stream) Close() error {
	s.stop()
	return s.Conn.Close()
}
