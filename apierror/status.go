package apierror

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// The bounds of what is sent, in bytes. gRPC sends the message twice, once of it
// with up to three bytes for each, and the details in base64: that is 6.5 KiB at
// most. Java's gRPC refuses more than 8 KiB of headers, and proxies do too.
const (
	// MaxMessage is the longest message.
	MaxMessage = 512
	// MaxDetails is how large the encoded details may be together.
	MaxDetails = 3 << 10
	// MaxReason is the longest reason (google.rpc.ErrorInfo: "at most 63
	// characters").
	MaxReason = 63

	maxDomain   = 128
	maxKey      = 64 // google.rpc.ErrorInfo: "Keys ... be limited to 64 characters in length"
	maxValue    = 256
	maxMetadata = 2 << 10
)

const ellipsis = "…"

// cut makes s valid UTF-8 of at most n bytes: protobuf takes no other.
func cut(s string, n int) string {
	if len(s) <= n && utf8.ValidString(s) {
		return s
	}
	if len(s) > 4*n { // do not look at megabytes to keep a line of them
		s = s[:4*n]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	end := n - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

// build makes the status, leaving out what does not fit.
func (e *Error) build() *status.Status {
	p := &spb.Status{Code: int32(e.code), Message: e.message}
	room := MaxDetails
	add := func(m proto.Message) bool {
		a, err := anypb.New(m)
		if err != nil || proto.Size(a) > room {
			return false
		}
		room -= proto.Size(a)
		p.Details = append(p.Details, a)
		return true
	}
	add(&errdetails.ErrorInfo{Reason: e.reason, Domain: e.domain, Metadata: e.fitting()})
	if e.retry {
		info := &errdetails.RetryInfo{}
		if e.after > 0 {
			info.RetryDelay = durationpb.New(e.after)
		}
		add(info)
	}
	for n := len(e.violations); n > 0; n = n * 3 / 4 {
		if add(badRequest(e.violations[:n], len(e.violations)-n)) {
			break
		}
	}
	for _, d := range e.details {
		add(d)
	}
	return status.FromProto(p)
}

// fitting is the metadata that may be sent.
func (e *Error) fitting() map[string]string {
	size := 0
	for _, v := range e.metadata {
		size += len(v)
	}
	if size < maxMetadata/2 && len(e.metadata) <= maxMetadata/2/maxKey {
		return e.metadata
	}
	room := maxMetadata
	out := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(e.metadata)) {
		v := e.metadata[k]
		if room -= len(k) + len(v) + 8; room < 0 { // with tags and lengths
			break
		}
		out[k] = v
	}
	return out
}

func badRequest(vs []Violation, missing int) *errdetails.BadRequest {
	out := &errdetails.BadRequest{}
	for _, v := range vs {
		out.FieldViolations = append(out.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: v.Field, Reason: v.Reason, Description: v.Description,
		})
	}
	if missing > 0 {
		out.FieldViolations = append(out.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Description: fmt.Sprintf("%d more violations are not shown", missing),
		})
	}
	return out
}

// FromStatus is [From] for a status; false for nil and for one without
// google.rpc.ErrorInfo.
func FromStatus(s *status.Status) (*Error, bool) {
	if s == nil || s.Code() == 0 {
		return nil, false
	}
	e := &Error{code: s.Code(), message: s.Message(), built: func() *status.Status { return s }}
	typed := false
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if !typed {
				e.reason, e.domain, e.metadata = d.GetReason(), d.GetDomain(), d.GetMetadata()
			}
			typed = true
		case *errdetails.RetryInfo:
			e.retry, e.after = true, delayOf(d)
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.violations = append(e.violations, Violation{Field: v.GetField(), Reason: v.GetReason(), Description: v.GetDescription()})
			}
		case proto.Message:
			e.details = append(e.details, d)
		}
	}
	if !typed {
		return nil, false
	}
	return e, true
}

// retryDelay looks at nothing but the retry.
func retryDelay(s *status.Status) (time.Duration, bool) {
	if s == nil {
		return 0, false
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return delayOf(info), true
		}
	}
	return 0, false
}

func delayOf(info *errdetails.RetryInfo) time.Duration {
	return max(info.GetRetryDelay().AsDuration(), 0) // which saturates, and is 0 for none
}
