// Package grpcweb answers gRPC-Web, the form of gRPC that browsers can speak: the
// same messages over any version of HTTP, with the trailers in the body
// (PROTOCOL-WEB of the gRPC project). It serves unary calls and server streams, in
// binary and in base64 (application/grpc-web-text); a client stream works for
// those that send all of it before they read.
//
// Guarantees:
//   - A call always ends with a trailer frame that has grpc-status, unless the
//     connection breaks.
//   - A message is read as it comes: what a frame says of its length reserves no
//     memory, and bodies are bounded by whoever gives them.
//   - What is wrong with a request is an error that says where.
package grpcweb

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"plinth.internal/middleware"
)

// The content types; "+proto" may follow.
const (
	binaryType = "application/grpc-web"
	textType   = "application/grpc-web-text"
	protoTail  = "+proto"
)

// Handlers run the handler of a method, by its full name such as
// "/shop.v1.Orders/Get", on a stream.
type Handlers interface {
	Serve(fullMethod string, ss grpc.ServerStream) error
}

// Is reports whether a request is gRPC-Web.
func Is(r *http.Request) bool {
	kind, _, ok := contentType(r)
	return r.Method == http.MethodPost && ok && kind != ""
}

// contentType tells whether the request is in base64, and how its messages are
// encoded.
func contentType(r *http.Request) (kind, tail string, ok bool) {
	full, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return "", "", false
	}
	for _, kind := range []string{textType, binaryType} {
		if tail, ok := strings.CutPrefix(full, kind); ok && (tail == "" || tail[0] == '+') {
			return kind, tail, true
		}
	}
	return "", "", false
}

// Serve answers a request by the handler of a method. The error is the handler's;
// the client has been told then.
func Serve(h Handlers, fullMethod string, w http.ResponseWriter, r *http.Request) error {
	kind, tail, _ := contentType(r)
	if tail != "" && tail != protoTail {
		return status.Errorf(codes.Unimplemented, "messages are %q, which is not known here; send %s", tail, binaryType+protoTail)
	}
	md, err := fromHTTP(r.Header)
	if err != nil {
		return err
	}
	ctx := metadata.NewIncomingContext(r.Context(), md)
	s := &stream{ctx: ctx, reply: reply{w: w, text: kind == textType}, body: r.Body}
	if kind == textType {
		s.body = &textReader{from: r.Body}
	}
	err = h.Serve(fullMethod, s)
	if late := s.reply.finish(err, s.header, s.trailer); err == nil {
		err = late
	}
	return err
}

// Fail answers a request with an error before anything was written.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	kind, _, _ := contentType(r)
	p := reply{w: w, text: kind == textType}
	if middleware.IsNoRetry(err) {
		w.Header().Set(middleware.HeaderNoRetry, "1")
	}
	_ = p.finish(err, nil, nil) // the caller is gone if this errs
}

// fromHTTP makes metadata of headers.
func fromHTTP(h http.Header) (metadata.MD, error) {
	md := make(metadata.MD, len(h))
	for key, values := range h {
		key = strings.ToLower(key)
		if reserved(key) {
			continue
		}
		for _, v := range values {
			if strings.HasSuffix(key, "-bin") {
				b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
				if err != nil {
					return nil, status.Errorf(codes.InvalidArgument, "read header %s: it is not base64", key)
				}
				v = string(b)
			}
			md[key] = append(md[key], v)
		}
	}
	return md, nil
}

// reserved reports headers that are HTTP's, the connection's or the encoding's.
func reserved(key string) bool {
	switch key {
	case "accept", "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer",
		"transfer-encoding", "upgrade", "x-grpc-web", "grpc-encoding", "grpc-accept-encoding", "grpc-message", "grpc-status",
		"grpc-status-details-bin", "grpc-timeout":
		return true
	}
	return strings.HasPrefix(key, ":") || strings.HasPrefix(key, "proxy-") || strings.HasPrefix(key, "access-control-")
}

// stream is the server's side of a call. Like every server's stream it is used
// by one goroutine that receives and one that sends.
type stream struct {
	ctx     context.Context
	body    io.Reader
	reply   reply
	header  metadata.MD
	trailer metadata.MD
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) SetHeader(md metadata.MD) error {
	if s.reply.begun {
		return status.Error(codes.Internal, "set header: the header was sent already")
	}
	s.header = metadata.Join(s.header, md)
	return nil
}

func (s *stream) SendHeader(md metadata.MD) error {
	if err := s.SetHeader(md); err != nil {
		return err
	}
	s.reply.begin(s.header)
	return s.reply.flush()
}

func (s *stream) SetTrailer(md metadata.MD) { s.trailer = metadata.Join(s.trailer, md) }

func (s *stream) SendMsg(m any) error {
	msg, ok := m.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "encode the answer: %T is no message of protobuf", m)
	}
	b, err := proto.Marshal(msg)
	if err != nil {
		return status.Errorf(codes.Internal, "encode the answer: %v", err)
	}
	s.reply.begin(s.header)
	if err := s.reply.frame(0, b); err != nil {
		return err
	}
	return s.reply.flush()
}

// RecvMsg returns io.EOF when the client has sent everything.
func (s *stream) RecvMsg(m any) error {
	msg, ok := m.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "decode the request: %T is no message of protobuf", m)
	}
	b, err := readFrame(s.body)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(b, msg); err != nil {
		return status.Errorf(codes.InvalidArgument, "decode the request: %s",
			strings.ReplaceAll(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: ", ""))
	}
	return nil
}

// reply writes the response.
type reply struct {
	w     http.ResponseWriter
	text  bool
	begun bool
}

// begin sends the headers, once.
func (p *reply) begin(md metadata.MD) {
	if p.begun {
		return
	}
	p.begun = true
	h := p.w.Header()
	for key, values := range md {
		if reserved(key) {
			continue
		}
		for _, v := range values {
			h.Add(key, encoded(key, v))
		}
	}
	h.Del("Content-Length")
	h.Set("Content-Type", binaryType+protoTail)
	if p.text {
		h.Set("Content-Type", textType+protoTail)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	p.w.WriteHeader(http.StatusOK)
}

// finish sends the trailers, of a call that has nothing else to say the headers
// as well.
func (p *reply) finish(err error, header, trailer metadata.MD) error {
	p.begin(header)
	s := status.New(codes.OK, "")
	if err != nil {
		s = middleware.Status(err)
	}
	var b strings.Builder
	line := func(key, value string) {
		b.WriteString(key + ": " + value + "\r\n")
	}
	line("grpc-status", strconv.Itoa(int(s.Code())))
	if s.Message() != "" {
		line("grpc-message", percent(s.Message()))
	}
	if full := s.Proto(); len(full.GetDetails()) > 0 {
		if raw, err := proto.Marshal(full); err == nil {
			line("grpc-status-details-bin", encoded("-bin", string(raw)))
		}
	}
	for key, values := range trailer {
		key = strings.ToLower(key)
		if reserved(key) || textproto.TrimString(key) != key || strings.ContainsAny(key, ":\r\n") {
			continue
		}
		for _, v := range values {
			line(key, oneLine.Replace(encoded(key, v)))
		}
	}
	if err := p.frame(trailerFlag, []byte(b.String())); err != nil {
		return err
	}
	return p.flush()
}

// oneLine keeps a value from becoming trailers of its own.
var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

func (p *reply) frame(flag byte, b []byte) error {
	b = appendFrame(nil, flag, b)
	if p.text {
		b = base64.StdEncoding.AppendEncode(nil, b)
	}
	if _, err := p.w.Write(b); err != nil {
		return status.Errorf(codes.Unavailable, "send the answer: %v", err)
	}
	return nil
}

func (p *reply) flush() error {
	if err := http.NewResponseController(p.w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return status.Errorf(codes.Unavailable, "send the answer: %v", err)
	}
	return nil
}

// encoded is a value of metadata as a header holds it.
func encoded(key, value string) string {
	if strings.HasSuffix(key, "-bin") {
		return base64.RawStdEncoding.EncodeToString([]byte(value))
	}
	return value
}

// percent is "Percent-Encoded" of PROTOCOL-HTTP2: all bytes but the printable
// ones of ASCII, and %.
func percent(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}
