package main

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"plinth.internal/internal/conformance/api"
)

// service answers as its requests say.
type service struct {
	api.UnimplementedConformanceServiceServer
}

func (service) Unary(ctx context.Context, req *api.UnaryRequest) (*api.UnaryResponse, error) {
	seen, err := anypb.New(req)
	if err != nil {
		return nil, err
	}
	def := req.GetResponseDefinition()
	if err := grpc.SetHeader(ctx, toMetadata(def.GetResponseHeaders())); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, toMetadata(def.GetResponseTrailers())); err != nil {
		return nil, err
	}
	payload, err := answer(ctx, def, []*anypb.Any{seen})
	if err != nil {
		return nil, err
	}
	return &api.UnaryResponse{Payload: payload}, nil
}

func (service) ClientStream(stream grpc.ClientStreamingServer[api.ClientStreamRequest, api.ClientStreamResponse]) error {
	var def *api.UnaryResponseDefinition
	var seen []*anypb.Any
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(seen) == 0 {
			def = req.GetResponseDefinition()
		}
		one, err := anypb.New(req)
		if err != nil {
			return err
		}
		seen = append(seen, one)
	}
	if err := stream.SetHeader(toMetadata(def.GetResponseHeaders())); err != nil {
		return err
	}
	stream.SetTrailer(toMetadata(def.GetResponseTrailers()))
	payload, err := answer(stream.Context(), def, seen)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&api.ClientStreamResponse{Payload: payload})
}

// answer is the one response, or the error, of a call.
func answer(ctx context.Context, def *api.UnaryResponseDefinition, seen []*anypb.Any) (*api.ConformancePayload, error) {
	if err := wait(ctx, def.GetResponseDelayMs()); err != nil {
		return nil, err
	}
	info := requestInfo(ctx, seen)
	if e := def.GetError(); e != nil {
		return nil, withInfo(e, info)
	}
	return &api.ConformancePayload{Data: def.GetResponseData(), RequestInfo: info}, nil
}

func (service) ServerStream(req *api.ServerStreamRequest, stream grpc.ServerStreamingServer[api.ServerStreamResponse]) error {
	seen, err := anypb.New(req)
	if err != nil {
		return err
	}
	r := replies{ctx: stream.Context(), send: func(p *api.ConformancePayload) error {
		return stream.Send(&api.ServerStreamResponse{Payload: p})
	}}
	if err := r.begin(stream, req.GetResponseDefinition()); err != nil {
		return err
	}
	return r.finish([]*anypb.Any{seen})
}

func (service) BidiStream(stream grpc.BidiStreamingServer[api.BidiStreamRequest, api.BidiStreamResponse]) error {
	r := replies{ctx: stream.Context(), send: func(p *api.ConformancePayload) error {
		return stream.Send(&api.BidiStreamResponse{Payload: p})
	}}
	var seen []*anypb.Any // since the last response
	full := false
	for first := true; ; first = false {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if first {
			full = req.GetFullDuplex()
			if err := r.begin(stream, req.GetResponseDefinition()); err != nil {
				return err
			}
		}
		one, err := anypb.New(req)
		if err != nil {
			return err
		}
		seen = append(seen, one)
		if !full {
			continue
		}
		if !r.more() {
			break
		}
		if err := r.next(seen); err != nil {
			return err
		}
		seen = nil
	}
	return r.finish(seen)
}

// replies are the responses of a stream, one after the other.
type replies struct {
	ctx  context.Context
	send func(*api.ConformancePayload) error
	def  *api.StreamResponseDefinition
	sent int
}

// begin sends the headers at once, so that a caller can read them before there
// is a response.
func (r *replies) begin(stream grpc.ServerStream, def *api.StreamResponseDefinition) error {
	r.def = def
	if def == nil {
		return nil
	}
	stream.SetTrailer(toMetadata(def.GetResponseTrailers()))
	return stream.SendHeader(toMetadata(def.GetResponseHeaders()))
}

func (r *replies) more() bool { return r.sent < len(r.def.GetResponseData()) }

// next sends a response. The first one tells all about the call, later ones only
// the requests that have come since, if any.
func (r *replies) next(seen []*anypb.Any) error {
	if err := wait(r.ctx, r.def.GetResponseDelayMs()); err != nil {
		return err
	}
	payload := &api.ConformancePayload{Data: r.def.GetResponseData()[r.sent]}
	switch {
	case r.sent == 0:
		payload.RequestInfo = requestInfo(r.ctx, seen)
	case len(seen) > 0:
		payload.RequestInfo = &api.ConformancePayload_RequestInfo{Requests: seen}
	}
	r.sent++
	return r.send(payload)
}

// finish sends what is left, and is the outcome of the stream.
func (r *replies) finish(seen []*anypb.Any) error {
	for r.more() {
		if err := r.next(seen); err != nil {
			return err
		}
		seen = nil
	}
	e := r.def.GetError()
	if e == nil {
		return nil
	}
	if r.sent > 0 {
		return toError(e)
	}
	return withInfo(e, requestInfo(r.ctx, seen))
}

// requestInfo is what the handler sees of a call.
func requestInfo(ctx context.Context, seen []*anypb.Any) *api.ConformancePayload_RequestInfo {
	md, _ := metadata.FromIncomingContext(ctx)
	info := &api.ConformancePayload_RequestInfo{RequestHeaders: fromMetadata(md), Requests: seen}
	if deadline, ok := ctx.Deadline(); ok {
		info.TimeoutMs = new(max(0, time.Until(deadline).Milliseconds()))
	}
	return info
}

// withInfo is the error that was asked for, with info among its details.
func withInfo(e *api.Error, info *api.ConformancePayload_RequestInfo) error {
	detail, err := anypb.New(info)
	if err != nil {
		return err
	}
	e = proto.CloneOf(e)
	e.Details = append(e.Details, detail)
	return toError(e)
}

// wait errs where ctx ends before.
func wait(ctx context.Context, ms uint32) error {
	if ms == 0 {
		return nil
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
