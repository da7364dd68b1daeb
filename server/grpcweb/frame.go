package grpcweb

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A frame is a byte of flags, four of length, and that many of content. The
// highest flag marks trailers (PROTOCOL-WEB).
const (
	frameHead      = 5
	compressedFlag = 0x01
	trailerFlag    = 0x80
)

func appendFrame(to []byte, flag byte, content []byte) []byte {
	to = append(to, flag)
	to = binary.BigEndian.AppendUint32(to, uint32(len(content)))
	return append(to, content...)
}

// readFrame reads the content of one frame with a message. It returns io.EOF at
// the end of the body and at trailers, which a client has nothing to say in.
func readFrame(r io.Reader) ([]byte, error) {
	var head [frameHead]byte
	switch n, err := io.ReadFull(r, head[:]); {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, status.Errorf(codes.InvalidArgument, "read a frame: its head is cut off after %d of %d bytes", n, frameHead)
	case err != nil:
		return nil, broken(err)
	}
	switch flag := head[0]; {
	case flag&trailerFlag != 0:
		return nil, io.EOF
	case flag == compressedFlag:
		return nil, status.Error(codes.Unimplemented, "read a frame: it is compressed, which is not supported over gRPC-Web; send it as it is")
	case flag != 0:
		return nil, status.Errorf(codes.InvalidArgument, "read a frame: flags %#02x are not known", flag)
	}
	length := int64(binary.BigEndian.Uint32(head[1:]))
	var b bytes.Buffer // grows with what comes, whatever length says
	if n, err := io.CopyN(&b, r, length); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, status.Errorf(codes.InvalidArgument, "read a frame: it is cut off after %d of %d bytes", n, length)
		}
		return nil, broken(err)
	}
	return b.Bytes(), nil
}

// broken is the error of a body that could not be read.
func broken(err error) error {
	if _, ok := errors.AsType[base64.CorruptInputError](err); ok {
		return status.Errorf(codes.InvalidArgument, "read a frame: %v", err)
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		return err // it says what is wrong
	}
	return status.Errorf(codes.Canceled, "read a frame: %v", err)
}

// textReader decodes base64 that may be padded anywhere: a client may have encoded
// each of its frames by itself, and PROTOCOL-WEB lets nobody assume where.
type textReader struct {
	from io.Reader
	rest []byte // decoded and not read yet
	raw  []byte // a part of four characters
	at   int64  // of the body
	err  error
}

func (t *textReader) Read(p []byte) (int, error) {
	for len(t.rest) == 0 {
		if t.err != nil {
			return 0, t.err
		}
		t.fill()
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

func (t *textReader) fill() {
	var buf [4096]byte
	n, err := t.from.Read(buf[:])
	t.err = err
	t.raw = append(t.raw, buf[:n]...)
	whole := len(t.raw) &^ 3
	for i := 0; i < whole; i += 4 {
		quad := t.raw[i : i+4]
		out, err := base64.StdEncoding.AppendDecode(t.rest, quad)
		if err != nil {
			t.err = base64.CorruptInputError(t.at + int64(i))
			t.raw = nil
			return
		}
		t.rest = out
	}
	t.at += int64(whole)
	t.raw = append(t.raw[:0], t.raw[whole:]...)
	if errors.Is(t.err, io.EOF) && len(t.raw) > 0 {
		t.err = base64.CorruptInputError(t.at)
	}
}
