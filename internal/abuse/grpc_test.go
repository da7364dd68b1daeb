//go:build unix

package abuse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const preface = http2.ClientPreface

// header is a list of names and values.
type header []string

// callHead is the head of a good call, with fields added or, where the name is
// there already, replaced; "" for the value leaves one out.
func callHead(changes ...string) header {
	h := header{":method", "POST", ":scheme", "http", ":path", sayMethod, ":authority", "x", "content-type", "application/grpc", "te", "trailers"}
next:
	for i := 0; i < len(changes); i += 2 {
		for j := 0; j < len(h); j += 2 {
			if h[j] == changes[i] {
				h[j+1] = changes[i+1]
				continue next
			}
		}
		h = append(h, changes[i], changes[i+1])
	}
	return h
}

func (h header) encode() []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(h); i += 2 {
		if h[i+1] != "" {
			_ = enc.WriteField(hpack.HeaderField{Name: h[i], Value: h[i+1]})
		}
	}
	return b.Bytes()
}

// frames writes what a client sends after its preface.
type frames struct {
	bytes.Buffer

	framer *http2.Framer
}

func newFrames() *frames {
	f := &frames{}
	f.WriteString(preface)
	f.framer = http2.NewFramer(&f.Buffer, nil)
	f.framer.AllowIllegalWrites = true
	_ = f.framer.WriteSettings()
	return f
}

// head writes the head of a call on a stream.
func (f *frames) head(stream uint32, block []byte, end bool) *frames {
	_ = f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true, EndStream: end})
	return f
}

func (f *frames) data(stream uint32, end bool, p []byte) *frames {
	_ = f.framer.WriteData(stream, end, p)
	return f
}

// raw writes a frame of which everything can be wrong.
func (f *frames) raw(length uint32, kind, flags byte, stream uint32, payload []byte) *frames {
	f.Write([]byte{byte(length >> 16), byte(length >> 8), byte(length), kind, flags})
	_ = binary.Write(&f.Buffer, binary.BigEndian, stream)
	f.Write(payload)
	return f
}

// message is a gRPC message with a flag and a length of its own.
func message(flag byte, length uint32, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, length), payload...)
}

// converse sends frames and reads the answer until something ends the call or the
// connection. A grpc-status that is not 0, an HTTP status of 400 and above, a
// reset, GOAWAY and a closed connection are clear. Where an end of the writing side
// is part of what is wrong, half is true. Where the protocol has an answer, wordless
// closing is none: then told is true.
func converse(addr string, raw []byte, half, told bool) error {
	c, err := dial(addr)
	if err != nil {
		return err
	}
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = c.Write(raw)
		if tcp, ok := c.(*net.TCPConn); ok && half {
			_ = tcp.CloseWrite()
		}
	}()
	defer func() {
		_ = c.Close()
		<-wrote
	}()
	framer := http2.NewFramer(io.Discard, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4<<10, nil)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			if isTimeout(err) {
				return fmt.Errorf("no answer to %x within %v", clip(raw[min(len(raw), len(preface)):]), patience)
			}
			if told {
				return fmt.Errorf("%x was answered by closing the connection: %w", clip(raw[min(len(raw), len(preface)):]), err)
			}
			return nil // closed
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame, *http2.RSTStreamFrame:
			return nil
		case *http2.MetaHeadersFrame:
			code, message := "", ""
			for _, field := range f.Fields {
				switch field.Name {
				case "grpc-status":
					code = field.Value
				case "grpc-message":
					message = field.Value
				}
			}
			if status := f.PseudoValue("status"); status != "" && status >= "400" {
				return nil
			}
			switch {
			case code == "0":
				return errors.New("the call was answered with OK")
			case code != "" && message == "":
				return fmt.Errorf("the error %s has no text", code)
			case code != "":
				return nil
			}
		}
	}
}

// garbageFrames are frames of which something is wrong, or nothing is right.
func garbageFrames(rng *rand.Rand) []byte {
	f := newFrames()
	switch rng.IntN(12) {
	case 0, 1, 2:
		f.Write(noise(rng, 9+rng.IntN(500)))
	case 3:
		f.raw(1<<24-1, byte(rng.IntN(10)), 0, 1, noise(rng, 100)) // longer than any frame may be
	case 4:
		f.raw(5, byte(http2.FrameSettings), 0, 0, noise(rng, 5))
	case 5:
		f.raw(3, byte(http2.FrameWindowUpdate), 0, 0, noise(rng, 3))
	case 6:
		f.raw(7, byte(http2.FramePing), 0, 0, noise(rng, 7))
	case 7:
		f.raw(4, byte(http2.FrameData), 0, 0, noise(rng, 4)) // on the connection itself
	case 8:
		f.head(2, callHead().encode(), false) // a stream of the server's
	case 9:
		f.raw(4, byte(http2.FrameWindowUpdate), 0, 0, []byte{0, 0, 0, 0}) // by nothing
	case 10:
		f.raw(0, byte(http2.FrameHeaders), 0x4, 0, nil)
	case 11:
		f.raw(8, byte(http2.FrameGoAway), 0, 1, noise(rng, 8))
	}
	return f.Bytes()
}

// badHPACK is a head that cannot be decoded.
func badHPACK(rng *rand.Rand) []byte {
	f := newFrames()
	block := callHead("x-a", words(rng, 50)).encode()
	switch rng.IntN(5) {
	case 0:
		f.head(1, block[:len(block)-1-rng.IntN(40)], false) // cut off in the last field
	case 1:
		f.head(1, append(block, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), false) // an index without end
	case 2:
		f.head(1, append(block, 0xfe), false) // an index that there is not
	case 3:
		_ = f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:5]})
		f.data(1, true, []byte("instead of the rest"))
	case 4:
		f.head(1, append([]byte{0x00, 0x83, 0xff, 0xff, 0xff}, noise(rng, 20)...), false) // Huffman code that is none
	}
	return f.Bytes()
}

// badHead is the head of a call that gRPC cannot take.
func badHead(rng *rand.Rand) []byte {
	f := newFrames()
	head := pick(rng,
		callHead(":path", ""), callHead(":path", "no slash"), callHead(":path", "/"), callHead(":path", "/abuse.v1.Echo"),
		callHead(":path", "/abuse.v1.Echo/"+words(rng, 9)), callHead(":path", "/"+words(rng, 9)+"/Say"), callHead(":method", "GET"), callHead(":method", ""),
		callHead("content-type", "text/html"), callHead("content-type", ""),
		callHead("grpc-timeout", "soon"), callHead("grpc-timeout", "-1S"), callHead("grpc-timeout", "999999999S"), callHead("grpc-timeout", "1"),
		callHead("grpc-encoding", words(rng, 6)), callHead("x-bin", "*not base64*"), callHead("Upper", "x"), callHead("connection", "close"),
		callHead(":extra", "x"), append(callHead(), ":path", "/late"), callHead("x-a", "\x00"), callHead("x-a", "new\nline"),
	)
	compressed := byte(0)
	for i := 0; i < len(head); i += 2 {
		if head[i] == "grpc-encoding" {
			compressed = 1
		}
	}
	f.head(1, head.encode(), false)
	f.data(1, true, message(compressed, 0, nil))
	return f.Bytes()
}

// badMessage is a call whose message is not what it says.
func badMessage(rng *rand.Rand) []byte {
	f := newFrames().head(1, callHead().encode(), false)
	switch rng.IntN(6) {
	case 0: // a flag that there is not
		f.data(1, true, message(2+byte(rng.IntN(254)), 3, []byte("abc")))
	case 1: // compressed by nothing
		f.data(1, true, message(1, 3, []byte("abc")))
	case 2: // longer than allowed
		f.data(1, true, message(0, 4<<20+1+rng.Uint32N(1<<31), []byte("abc")))
	case 3: // shorter than it says
		f.data(1, true, message(0, 100, noise(rng, rng.IntN(100))))
	case 4: // no protobuf
		f.data(1, true, message(0, 3, []byte{0x0a, 0x7f, 'x'}))
	case 5: // a head that is cut off
		f.data(1, true, message(0, 3, nil)[:1+rng.IntN(4)])
	}
	return f.Bytes()
}

// hugeMetadata is a head without end, in one way or another.
func hugeMetadata(rng *rand.Rand) []byte {
	f := newFrames()
	head := callHead()
	size := 80<<10 + rng.IntN(200<<10)
	if rng.IntN(2) == 0 {
		head = append(head, "x-long", strings.Repeat(words(rng, 1), size))
	} else {
		for n := 0; n < size; n += 300 {
			head = append(head, "x-"+words(rng, 10), words(rng, 256))
		}
	}
	block := head.encode()
	const piece = 16 << 10
	first := block[:min(piece, len(block))]
	_ = f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndHeaders: len(first) == len(block)})
	for rest := block[len(first):]; len(rest) > 0; {
		n := min(piece, len(rest))
		_ = f.framer.WriteContinuation(1, n == len(rest), rest[:n])
		rest = rest[n:]
	}
	f.data(1, true, message(0, 0, nil))
	return f.Bytes()
}

func grpcKinds() []kind {
	frames := func(build func(rng *rand.Rand) []byte, half, told bool) func(string, *rand.Rand) error {
		return func(addr string, rng *rand.Rand) error { return converse(addr, build(rng), half, told) }
	}
	metadata := variants(hugeMetadata)
	var out []kind
	for _, at := range []struct {
		name string
		addr func(v *victim) string
	}{{"gRPC", toGRPC}, {"HTTP/2", toHTTP}, {"admin HTTP/2", toAdmin}} {
		out = append(
			out,
			kind{at.name + " garbage frames", at.addr, frames(garbageFrames, true, false)},
			kind{at.name + " bad HPACK", at.addr, frames(badHPACK, false, false)},
			kind{at.name + " bad heads", at.addr, frames(badHead, false, true)},
			// grpc closes the connection where the limit is exceeded by far; one of
			// grpc's own clients has read the limit, and does not send so much.
			kind{at.name + " huge metadata", at.addr, frames(metadata, false, at.name != "gRPC")},
		)
	}
	return append(out, kind{"gRPC bad messages", toGRPC, frames(badMessage, false, true)})
}
