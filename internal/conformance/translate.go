package main

import (
	"encoding/base64"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"plinth.internal/internal/conformance/api"
)

// Names of metadata that end like this have binary values. grpc-go takes and
// gives them as they are, the suite's messages hold them in base64 as it goes
// over the wire: with or without padding.
const binary64 = "-bin"

func toMetadata(headers []*api.Header) metadata.MD {
	md := metadata.MD{}
	for _, h := range headers {
		key := strings.ToLower(h.GetName())
		for _, v := range h.GetValue() {
			if strings.HasSuffix(key, binary64) {
				if raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "=")); err == nil {
					v = string(raw)
				}
			}
			md[key] = append(md[key], v)
		}
	}
	return md
}

func fromMetadata(md metadata.MD) []*api.Header {
	headers := make([]*api.Header, 0, len(md))
	for key, values := range md {
		h := &api.Header{Name: key}
		for _, v := range values {
			if strings.HasSuffix(key, binary64) {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			h.Value = append(h.Value, v)
		}
		headers = append(headers, h)
	}
	return headers
}

// toError is nil for no error.
func toError(e *api.Error) error {
	if e == nil {
		return nil
	}
	return status.FromProto(&spb.Status{Code: e.GetCode(), Message: e.GetMessage(), Details: e.GetDetails()}).Err()
}

// fromError is nil for no error.
func fromError(err error) *api.Error {
	if err == nil {
		return nil
	}
	s, _ := status.FromError(err)
	return &api.Error{Code: int32(s.Code()), Message: new(s.Message()), Details: s.Proto().GetDetails()}
}
