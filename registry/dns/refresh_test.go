package dns

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestWait(t *testing.T) {
	tests := []struct {
		name     string
		opt      Option
		ttl      time.Duration
		shortest time.Duration
	}{
		{"time to live", WithRefresh(0, 0), 5 * time.Second, 5 * time.Second},
		{"zero", WithRefresh(0, 0), 0, DefaultMinRefresh},
		{"long", WithRefresh(0, 0), time.Hour, DefaultMaxRefresh},
		{"unknown", WithRefresh(0, 0), -1, UnknownRefresh},
		{"unknown and bounded", WithRefresh(0, 2*time.Second), -1, 2 * time.Second},
		{"interval", WithRefresh(3*time.Second, 3*time.Second), time.Minute, 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := newOptions([]Option{tt.opt})
			if err != nil {
				t.Fatal(err)
			}
			longest, sum := tt.shortest+tt.shortest/5, time.Duration(0)
			for range 1000 {
				got := o.wait(tt.ttl)
				if got < tt.shortest || got > longest {
					t.Fatalf("wait(%v) = %v, want from %v to %v", tt.ttl, got, tt.shortest, longest)
				}
				sum += got
			}
			// The jitter uses the whole fifth: the mean of 1000 is near its middle.
			if mean, want := sum/1000, tt.shortest+tt.shortest/10; mean < want-tt.shortest/50 || mean > want+tt.shortest/50 {
				t.Errorf("mean wait %v, want about %v", mean, want)
			}
		})
	}
}

// Lists that are kept on disk must not be taken for those of other names.
func TestScope(t *testing.T) {
	scope := func(names, server, network string) string {
		parsed, err := parse(names)
		if err != nil {
			t.Fatal(err)
		}
		return (&driver{names: parsed, options: options{server: server, network: network}}).Scope()
	}
	const names = "{service}.prod.:9000"
	first := scope(names, "", "ip")
	if first != scope(names, "", "ip") || len(first) > 32 {
		t.Errorf("scope %q: must be constant and short", first)
	}
	for _, other := range []string{scope("{service}.test.:9000", "", "ip"), scope(names, "h:53", "ip"), scope(names, "", "ip4"), scope(names+",http="+names, "", "ip")} {
		if first == other {
			t.Errorf("two registries have the scope %q", other)
		}
	}
}

// message is an answer with the given times to live.
func message(t testing.TB, ttls ...uint32) []byte {
	t.Helper()
	name := dnsmessage.MustNewName("billing.test.")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{Response: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		// Not an answer: it says nothing about how long there is none.
		Authorities: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.NSResource{NS: name},
		}},
	}
	for _, ttl := range ttls {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: ttl},
			Body:   &dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}},
		})
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestAnswerTTL(t *testing.T) {
	good := message(t, 30, 7, 60)
	tests := []struct {
		name    string
		message []byte
		want    uint32
		ok      bool
	}{
		{"shortest", good, 7, true},
		{"zero", message(t, 5, 0), 0, true},
		{"no answers", message(t), 0, false},
		{"nothing", nil, 0, false},
		{"no message", []byte("GET / HTTP/1.1\r\n\r\n"), 0, false},
		{"cut in the header", good[:8], 0, false},
		{"cut in the second answer", good[:12+18+16+10], 30, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := answerTTL(tt.message); got != tt.want || ok != tt.ok {
				t.Errorf("answerTTL = %d, %v, want %d, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

// A stream may come in any pieces, and the resolver reads it in its own.
func TestStreamIsReadAlong(t *testing.T) {
	first, second := message(t, 30), message(t, 20)
	var sent []byte
	for _, m := range [][]byte{first, second} {
		sent = append(sent, byte(len(m)>>8), byte(len(m)))
		sent = append(sent, m...)
	}
	for _, size := range []int{1, 2, 7, len(sent)} {
		ours, theirs := net.Pipe()
		var l life
		conn := l.observe(t.Context(), ours)
		if got := l.shortest(); got >= 0 {
			t.Errorf("time to live %v before any answer, want none", got)
		}
		go func() {
			theirs.Write(sent)
			theirs.Close()
		}()
		var got []byte
		buf := make([]byte, size)
		for {
			n, err := conn.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				break
			}
		}
		if string(got) != string(sent) {
			t.Errorf("reads of %d bytes changed what was read", size)
		}
		if want := 20 * time.Second; l.shortest() != want {
			t.Errorf("reads of %d bytes: time to live %v, want %v", size, l.shortest(), want)
		}
		conn.Close()
	}
}

func FuzzAnswerTTL(f *testing.F) {
	f.Add(message(f, 30, 7))
	f.Add(message(f))
	f.Add([]byte("\x00\x00\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\xc0\x0c"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ttl, ok := answerTTL(data)
		var m dnsmessage.Message
		if m.Unpack(data) != nil {
			return
		}
		// What can be read as a whole has the shortest of its answers.
		if ok != (len(m.Answers) > 0) {
			t.Fatalf("answerTTL found an answer: %v; there are %d", ok, len(m.Answers))
		}
		for _, a := range m.Answers {
			if a.Header.TTL < ttl {
				t.Errorf("answerTTL = %d, an answer has %d", ttl, a.Header.TTL)
			}
		}
	})
}

// FuzzRecords checks that whatever SRV records say, instances are valid.
func FuzzRecords(f *testing.F) {
	f.Add("a.test.", uint16(0), uint16(0), uint16(9000), "b.test.", uint16(1), uint16(7), uint16(0))
	f.Add(".", uint16(0), uint16(0), uint16(0), "a.test.", uint16(0), uint16(65535), uint16(65535))
	f.Fuzz(func(t *testing.T, host1 string, priority1, weight1, port1 uint16, host2 string, priority2, weight2, port2 uint16) {
		records := best([]*net.SRV{
			{Target: host1, Priority: priority1, Weight: weight1, Port: port1},
			{Target: host2, Priority: priority2, Weight: weight2, Port: port2},
		})
		var targets []target
		for _, r := range records {
			if r.Priority != records[0].Priority {
				t.Errorf("priorities %d and %d are among the best", r.Priority, records[0].Priority)
			}
			addr := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), r.Port)
			targets = append(targets, target{addr: addr, weight: int(r.Weight)})
		}
		list := assemble("billing", []name{{protocol: "grpc"}, {protocol: "http"}}, [][]target{targets, targets})
		for _, inst := range list.Instances {
			if err := inst.Validate(); err != nil {
				t.Error(err)
			}
			if inst.Weight < 1 || inst.Weight > 65535 {
				t.Errorf("weight %d, want from 1 to 65535", inst.Weight)
			}
		}
	})
}
