package server

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// sniffMax bounds what is read of a connection before it is told where it goes.
const sniffMax = maxHeaderBytes + 16<<10

// sniffer reads the beginning of a connection and keeps it.
type sniffer struct {
	conn    net.Conn
	browser bool
	kept    bytes.Buffer
	told    bool  // our SETTINGS are out
	err     error // of reading
}

// Read is for the framer, which reads no byte too many.
func (s *sniffer) Read(b []byte) (int, error) {
	if s.kept.Len() >= sniffMax {
		return 0, io.ErrShortBuffer
	}
	n, err := s.conn.Read(b)
	s.kept.Write(b[:n])
	s.err = err
	return n, err
}

// find tells the side that the connection is for.
func (s *sniffer) find() (int, error) {
	buf := make([]byte, len(http2.ClientPreface))
	for s.kept.Len() < len(buf) {
		// It is HTTP/1 as soon as it is not the preface of HTTP/2.
		if _, err := s.Read(buf[s.kept.Len():]); err != nil {
			return 0, err
		}
		if !bytes.HasPrefix([]byte(http2.ClientPreface), s.kept.Bytes()) {
			return sideHTTP, nil
		}
	}
	// Clients of gRPC call nobody before they have seen the server's SETTINGS
	// ("the server connection preface ... MUST be the first frame the server
	// sends", RFC 9113, 3.4), so some are sent here: the defaults. The server's
	// own follow later, as they may at any time.
	framer := http2.NewFramer(s.conn, s)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.MaxHeaderListSize = maxHeaderBytes
	framer.SetMaxReadFrameSize(16 << 10)
	if err := framer.WriteSettings(); err != nil {
		return 0, err
	}
	s.told = true
	if err := s.conn.SetReadDeadline(time.Now().Add(quietTimeout)); err != nil {
		return 0, err
	}
	return s.firstRequest(framer)
}

// firstRequest reads frames up to the first that decides.
func (s *sniffer) firstRequest(framer *http2.Framer) (int, error) {
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			if s.err != nil && !errors.Is(s.err, os.ErrDeadlineExceeded) {
				return 0, s.err
			}
			// Nothing more has come, or it makes no sense, which is for the
			// server to say. What was read stays whole: it is replayed, and the
			// rest of a frame follows it.
			return s.quiet(), nil
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, h := range f.RegularFields() {
				if h.Name == "content-type" && isGRPC(h.Value) {
					return sideGRPC, nil
				}
			}
			return sideHTTP, nil
		case *http2.PingFrame:
			// It wants an answer, and has no call.
			return s.quiet(), nil
		case *http2.DataFrame, *http2.RSTStreamFrame, *http2.PushPromiseFrame, *http2.GoAwayFrame:
			return s.quiet(), nil // none of these comes first
		}
	}
}

func (s *sniffer) quiet() int {
	if s.browser {
		return sideHTTP
	}
	return sideGRPC
}

// isGRPC reports the content types of gRPC itself: "application/grpc" with what
// "+" or ";" add. Those of gRPC-Web begin with the same letters.
func isGRPC(contentType string) bool {
	const base = "application/grpc"
	if len(contentType) < len(base) || contentType[:len(base)] != base {
		return false
	}
	rest := contentType[len(base):]
	return rest == "" || rest[0] == '+' || rest[0] == ';'
}

// result is the connection as its server gets it.
func (s *sniffer) result(side int) net.Conn {
	c := &sharedConn{Conn: s.conn, first: bytes.NewReader(s.kept.Bytes())}
	if t, ok := s.conn.(*tls.Conn); ok {
		state := t.ConnectionState()
		c.state = &state
	}
	if side == sideHTTP && s.told {
		// net/http counts acknowledgements of SETTINGS, and knows nothing of
		// ours. gRPC does not count.
		c.acks = &ackFilter{skip: len(http2.ClientPreface)}
	}
	return c
}

// ackFilter takes the first acknowledgement of SETTINGS out of what a client of
// HTTP/2 sends; after it everything passes as it is.
type ackFilter struct {
	skip int // bytes that pass before the next head of a frame
	head [frameHeaderLen]byte
	have int // bytes of head that were read
	out  []byte
	done bool
}

const frameHeaderLen = 9

// read reads like from, which it reads by.
func (f *ackFilter) read(from func([]byte) (int, error), b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(f.out) > 0:
			n := copy(b, f.out)
			f.out = f.out[n:]
			return n, nil
		case f.done:
			return from(b)
		case f.skip > 0:
			n, err := from(b[:min(len(b), f.skip)])
			f.skip -= n
			return n, err
		}
		n, err := from(f.head[f.have:])
		f.have += n
		if f.have < frameHeaderLen {
			if err != nil {
				if f.have > 0 && errors.Is(err, io.EOF) {
					f.out, f.have, f.done = f.head[:f.have], 0, true
					continue
				}
				return 0, err
			}
			continue
		}
		f.have = 0
		length := int(binary.BigEndian.Uint32(append([]byte{0}, f.head[:3]...)))
		if http2.FrameType(f.head[3]) == http2.FrameSettings && http2.Flags(f.head[4]).Has(http2.FlagSettingsAck) && length == 0 {
			f.done = true
			continue
		}
		f.out = append([]byte(nil), f.head[:]...)
		f.skip = length
	}
}
