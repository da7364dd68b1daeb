package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"plinth.internal/internal/conformance/api"
)

// call makes a call as req says. The error is of the request; that of the call
// is in the result.
func call(ctx context.Context, conn *grpc.ClientConn, req *api.ClientCompatRequest) (*api.ClientResponseResult, error) {
	if req.GetService() != api.ConformanceService_ServiceDesc.ServiceName {
		return nil, fmt.Errorf("make call: there is no service %q", req.GetService())
	}
	c := caller{req: req, conn: conn, result: new(api.ClientResponseResult)}
	for _, m := range req.GetRequestMessages() {
		msg, err := m.UnmarshalNew()
		if err != nil {
			return nil, fmt.Errorf("read request message: %w", err)
		}
		c.messages = append(c.messages, msg)
	}
	if req.GetCompression() == api.Compression_COMPRESSION_GZIP {
		c.opts = append(c.opts, grpc.UseCompressor(gzip.Name))
	}
	if limit := req.GetMessageReceiveLimit(); limit > 0 {
		c.opts = append(c.opts, grpc.MaxCallRecvMsgSize(int(limit)))
	}
	if req.TimeoutMs != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(req.GetTimeoutMs())*time.Millisecond)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ctx, toMetadata(req.GetRequestHeaders())))
	defer cancel()
	c.cancel = cancel

	method := "/" + req.GetService() + "/" + req.GetMethod()
	switch req.GetMethod() {
	case "Unary":
		return c.result, c.unary(ctx, method, new(api.UnaryResponse))
	case "Unimplemented":
		return c.result, c.unary(ctx, method, new(api.UnimplementedResponse))
	}
	for _, desc := range api.ConformanceService_ServiceDesc.Streams {
		if desc.StreamName == req.GetMethod() {
			c.stream(ctx, &desc, method)
			return c.result, nil
		}
	}
	return nil, fmt.Errorf("make call: there is no method %q", req.GetMethod())
}

// caller makes one call.
type caller struct {
	req      *api.ClientCompatRequest
	conn     *grpc.ClientConn
	opts     []grpc.CallOption
	messages []proto.Message
	cancel   context.CancelFunc
	result   *api.ClientResponseResult
}

func (c *caller) unary(ctx context.Context, method string, resp proto.Message) error {
	if len(c.messages) != 1 {
		return fmt.Errorf("make unary call: it has %d requests", len(c.messages))
	}
	if ms, ok := c.cancelAfterSend(); ok {
		defer time.AfterFunc(ms, c.cancel).Stop()
	}
	var header, trailer metadata.MD
	err := c.conn.Invoke(ctx, method, c.messages[0], resp, append(c.opts, grpc.Header(&header), grpc.Trailer(&trailer))...)
	if err == nil {
		c.received(resp)
	}
	c.ended(err, header, trailer)
	return nil
}

func (c *caller) stream(ctx context.Context, desc *grpc.StreamDesc, method string) {
	stream, err := c.conn.NewStream(ctx, desc, method, c.opts...)
	if err != nil {
		c.ended(err, nil, nil)
		return
	}
	next := func() proto.Message { return newResponse(desc.StreamName) }
	err = c.send(ctx, stream, next)
	for err == nil {
		err = c.receive(stream, next)
		if err == nil && !desc.ServerStreams {
			break // grpc has seen to it that there is only one
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	header, _ := stream.Header() // without one there is an error already
	c.ended(err, header, stream.Trailer())
}

// newResponse makes a response message of a stream.
func newResponse(stream string) proto.Message {
	switch stream {
	case "ServerStream":
		return new(api.ServerStreamResponse)
	case "ClientStream":
		return new(api.ClientStreamResponse)
	}
	return new(api.BidiStreamResponse)
}

// send sends the requests, and between them receives responses if the call is
// full duplex. Its error is that of the call, io.EOF where that went well.
func (c *caller) send(ctx context.Context, stream grpc.ClientStream, next func() proto.Message) error {
	full := c.req.GetStreamType() == api.StreamType_STREAM_TYPE_FULL_DUPLEX_BIDI_STREAM
	for i, m := range c.messages {
		_ = wait(ctx, c.req.GetRequestDelayMs()) // the stream tells
		if err := stream.SendMsg(m); err != nil {
			c.result.NumUnsentRequests = int32(len(c.messages) - i)
			if errors.Is(err, io.EOF) { // what came of the call is told to those who receive
				break
			}
			return err
		}
		if full {
			if err := c.receive(stream, next); err != nil {
				c.result.NumUnsentRequests = int32(len(c.messages) - i - 1)
				return err
			}
		}
	}
	cancel := c.req.GetCancel()
	if cancel.GetBeforeCloseSend() != nil {
		c.cancel()
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if delay, ok := c.cancelAfterSend(); ok {
		_ = wait(ctx, uint32(delay.Milliseconds())) // likewise
		c.cancel()
	}
	return nil
}

// cancelAfterSend says how long after the requests to cancel the call, if so.
func (c *caller) cancelAfterSend() (time.Duration, bool) {
	cancel := c.req.GetCancel()
	switch timing := cancel.GetCancelTiming().(type) {
	case *api.ClientCompatRequest_Cancel_AfterCloseSendMs:
		return time.Duration(timing.AfterCloseSendMs) * time.Millisecond, true
	case nil:
		return 0, cancel != nil
	}
	return 0, false
}

func (c *caller) receive(stream grpc.ClientStream, next func() proto.Message) error {
	resp := next()
	if err := stream.RecvMsg(resp); err != nil {
		return err
	}
	c.received(resp)
	if n := c.req.GetCancel().GetAfterNumResponses(); n > 0 && len(c.result.GetPayloads()) == int(n) {
		c.cancel()
	}
	return nil
}

func (c *caller) received(resp proto.Message) {
	var payload *api.ConformancePayload
	if r, ok := resp.(interface {
		GetPayload() *api.ConformancePayload
	}); ok {
		payload = r.GetPayload()
	}
	if payload == nil {
		payload = new(api.ConformancePayload)
	}
	c.result.Payloads = append(c.result.Payloads, payload)
}

func (c *caller) ended(err error, header, trailer metadata.MD) {
	c.result.Error = fromError(err)
	c.result.ResponseHeaders = fromMetadata(header)
	c.result.ResponseTrailers = fromMetadata(trailer)
}
