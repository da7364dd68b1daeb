package dns_test

import (
	"encoding/binary"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// server is a DNS server on loopback, over UDP and TCP.
type server struct {
	addr string
	udp  net.PacketConn
	tcp  net.Listener
	wg   sync.WaitGroup

	mu       sync.Mutex
	records  map[string][]dnsmessage.ResourceBody // by name, with the dot
	ttl      uint32
	fault    fault
	failing  string // the name or type that the fault is limited to; "" is all
	question map[string]int
	conns    map[net.Conn]bool
}

type fault string

const (
	none     fault = ""
	silent   fault = "no answer"
	empty    fault = "no records"
	truncate fault = "truncated"
	garbage  fault = "garbage"
	servfail fault = "SERVFAIL"
	nxdomain fault = "NXDOMAIN"
	refused  fault = "REFUSED"
)

func newServer(t testing.TB) *server {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{
		addr: tcp.Addr().String(), udp: udp, tcp: tcp, ttl: 1,
		records:  make(map[string][]dnsmessage.ResourceBody),
		question: make(map[string]int),
		conns:    make(map[net.Conn]bool),
	}
	s.wg.Go(s.servePackets)
	s.wg.Go(s.serveStreams)
	t.Cleanup(func() {
		s.udp.Close()
		s.tcp.Close()
		s.mu.Lock()
		for conn := range s.conns {
			conn.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *server) servePackets() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer := s.answer(buf[:n], false); answer != nil {
			s.udp.WriteTo(answer, from)
		}
	}
}

func (s *server) serveStreams() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			defer conn.Close()
			var length [2]byte
			if _, err := io.ReadFull(conn, length[:]); err != nil {
				return
			}
			request := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(conn, request); err != nil {
				return
			}
			if answer := s.answer(request, true); answer != nil {
				conn.Write(binary.BigEndian.AppendUint16(nil, uint16(len(answer))))
				conn.Write(answer)
			}
		})
	}
}

func (s *server) answer(request []byte, stream bool) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(request); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.question[name]++
	m = dnsmessage.Message{
		Header:    dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: m.Questions,
	}
	records, known := s.records[name]
	for _, body := range records {
		if typeOf(body) == q.Type {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: s.ttl},
				Body:   body,
			})
		}
	}
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	fault := s.fault
	if s.failing != "" && s.failing != name && s.failing != q.Type.String() {
		fault = none
	}
	switch fault {
	case none:
	case silent:
		return nil
	case empty:
		m.Answers, m.RCode = nil, dnsmessage.RCodeSuccess
	case truncate:
		if !stream {
			m.Answers, m.Truncated = nil, true
		}
	case garbage:
		return append(request[:2:2], "\x80\x00not a message"...)
	case servfail, nxdomain, refused:
		m.Answers = nil
		m.RCode = codes[fault]
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

var codes = map[fault]dnsmessage.RCode{
	servfail: dnsmessage.RCodeServerFailure, nxdomain: dnsmessage.RCodeNameError, refused: dnsmessage.RCodeRefused,
}

func typeOf(body dnsmessage.ResourceBody) dnsmessage.Type {
	switch body.(type) {
	case *dnsmessage.AResource:
		return dnsmessage.TypeA
	case *dnsmessage.AAAAResource:
		return dnsmessage.TypeAAAA
	default:
		return dnsmessage.TypeSRV
	}
}

// set replaces the records of a name; without any the name does not exist.
func (s *server) set(name string, records ...dnsmessage.ResourceBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(records) == 0 {
		delete(s.records, name)
		return
	}
	s.records[name] = records
}

func (s *server) setTTL(ttl uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ttl = ttl
}

// fail gives the server a fault, for one name or type of question if only is
// not empty.
func (s *server) fail(f fault, only string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.failing = f, only
}

// questions returns how often the name was asked for.
func (s *server) questions(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.question[name]
}

func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.question))
}

func address(text string) dnsmessage.ResourceBody {
	addr := netip.MustParseAddr(text)
	if addr.Is4() {
		return &dnsmessage.AResource{A: addr.As4()}
	}
	return &dnsmessage.AAAAResource{AAAA: addr.As16()}
}

func srv(priority, weight, port uint16, target string) dnsmessage.ResourceBody {
	return &dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(target)}
}
