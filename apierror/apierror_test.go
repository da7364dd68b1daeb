package apierror_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"plinth.internal/apierror"
)

const shop = apierror.Domain("shop.example.com")

func TestNew(t *testing.T) {
	cause := errors.New("no rows")
	e := shop.New(codes.NotFound, "ORDER_NOT_FOUND", "there is no order 17",
		apierror.Metadata("order", "17"), apierror.Metadata("order", "18"), apierror.Cause(cause), nil,
		apierror.Violations(apierror.Violation{Field: "id", Reason: "UNKNOWN", Description: "not known"}), apierror.Detail(nil))
	if e.Code() != codes.NotFound || e.Reason() != "ORDER_NOT_FOUND" || e.Domain() != shop || e.Message() != "there is no order 17" {
		t.Errorf("made %+v", e)
	}
	if got := e.Metadata(); !maps.Equal(got, map[string]string{"order": "18"}) {
		t.Errorf("metadata is %v", got)
	}
	if vs := e.Violations(); len(vs) != 1 || vs[0].Field != "id" {
		t.Errorf("violations are %+v", vs)
	}
	if want := "shop.example.com/ORDER_NOT_FOUND: there is no order 17: no rows"; e.Error() != want {
		t.Errorf("text is %q, want %q", e.Error(), want)
	}
	if !errors.Is(e, cause) || !errors.Is(e, shop.New(codes.Internal, "ORDER_NOT_FOUND", "")) {
		t.Error("it is neither its cause nor its kind")
	}
	for _, other := range []error{shop.New(codes.NotFound, "OTHER", ""), apierror.Domain("x").New(codes.NotFound, "ORDER_NOT_FOUND", ""), io.EOF} {
		if errors.Is(e, other) {
			t.Errorf("it is %v", other)
		}
	}
	if _, ok := e.RetryAfter(); ok || e.NoRetry() {
		t.Error("it says something about retrying")
	}
	if bare := shop.New(codes.OK, "", ""); bare.Code() != codes.Unknown || bare.Reason() != "UNSPECIFIED" || bare.Error() != "shop.example.com/UNSPECIFIED" {
		t.Errorf("without anything: %v, %v", bare.Code(), bare)
	}
}

func TestRetryOptions(t *testing.T) {
	for _, tt := range []struct {
		name  string
		opts  []apierror.Option
		after time.Duration
		retry bool
		final bool
	}{
		{"nothing", nil, 0, false, false},
		{"retryable", []apierror.Option{apierror.Retryable(time.Second)}, time.Second, true, false},
		{"retryable at once", []apierror.Option{apierror.Retryable(0)}, 0, true, false},
		{"retryable in the past", []apierror.Option{apierror.Retryable(-time.Second)}, 0, true, false},
		{"final", []apierror.Option{apierror.NotRetryable()}, 0, false, true},
		{"the last one wins", []apierror.Option{apierror.Retryable(time.Second), apierror.NotRetryable()}, 0, false, true},
		{"the last one wins, too", []apierror.Option{apierror.NotRetryable(), apierror.Retryable(time.Minute)}, time.Minute, true, false},
	} {
		e := shop.New(codes.Aborted, "BUSY", "busy", tt.opts...)
		if after, retry := e.RetryAfter(); after != tt.after || retry != tt.retry || e.NoRetry() != tt.final {
			t.Errorf("%s: %v %v %v", tt.name, after, retry, e.NoRetry())
		}
		// The same is read from what is sent.
		if after, retry := apierror.RetryDelay(status.FromProto(e.GRPCStatus().Proto()).Err()); after != tt.after || retry != tt.retry {
			t.Errorf("%s, sent: %v %v", tt.name, after, retry)
		}
	}
}

func TestFrom(t *testing.T) {
	made := shop.New(codes.NotFound, "GONE", "gone", apierror.Metadata("k", "v"))
	sent := status.FromProto(made.GRPCStatus().Proto()).Err()
	retry, err := status.New(codes.Unavailable, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"nil", nil, false},
		{"plain", io.EOF, false},
		{"status", status.Error(codes.NotFound, "gone"), false},
		{"status without a reason", retry.Err(), false},
		{"made here", made, true},
		{"made here, wrapped", fmt.Errorf("get order: %w", made), true},
		{"sent", sent, true},
		{"sent, wrapped", fmt.Errorf("get order: %w", sent), true},
		{"joined", errors.Join(io.EOF, sent), true},
	} {
		e, ok := apierror.From(tt.err)
		if ok != tt.want || shop.Is(tt.err, "GONE") != tt.want || shop.Is(tt.err, "OTHER") {
			t.Errorf("%s: %v %v", tt.name, e, ok)
			continue
		}
		if !ok {
			continue
		}
		if e.Code() != codes.NotFound || e.Message() != "gone" || e.Metadata()["k"] != "v" || !errors.Is(e, made) {
			t.Errorf("%s: %+v", tt.name, e)
		}
		if !proto.Equal(e.GRPCStatus().Proto(), made.GRPCStatus().Proto()) {
			t.Errorf("%s: it is sent on as %v", tt.name, e.GRPCStatus().Proto())
		}
	}
	if after, ok := apierror.RetryDelay(retry.Err()); !ok || after != time.Second {
		t.Errorf("the retry of an error without a reason is %v, %v", after, ok)
	}
	if _, ok := apierror.FromStatus(nil); ok {
		t.Error("no status is an error")
	}
}

// TestBounds: whatever is put in, what is sent fits into 8 KiB of headers.
func TestBounds(t *testing.T) {
	long := strings.Repeat("ü\xff", 100_000)
	opts := []apierror.Option{apierror.Retryable(time.Hour)}
	var violations []apierror.Option
	for i := range 1000 {
		opts = append(opts, apierror.Metadata(fmt.Sprintf("key-%d", i), long))
		violations = append(violations, apierror.Violations(apierror.Violation{Field: fmt.Sprintf("f%d", i), Reason: long, Description: long}))
	}
	opts = append(opts, violations...)
	opts = append(opts, apierror.Detail(&errdetails.Help{Links: []*errdetails.Help_Link{{Description: strings.Repeat("x", 10_000)}}}),
		apierror.Detail(&errdetails.RequestInfo{RequestId: "small"}))
	for name, e := range map[string]*apierror.Error{
		"everything": apierror.Domain(long).New(codes.Internal, long, long, opts...),
		"violations": shop.New(codes.InvalidArgument, "INVALID", long, append(violations, apierror.Retryable(time.Hour))...),
	} {
		p := e.GRPCStatus().Proto()
		if len(p.GetMessage()) > apierror.MaxMessage || !utf8.ValidString(p.GetMessage()) || !strings.HasSuffix(p.GetMessage(), "…") {
			t.Errorf("%s: the message has %d bytes", name, len(p.GetMessage()))
		}
		details := 0
		for _, d := range p.GetDetails() {
			details += proto.Size(d)
		}
		if details > apierror.MaxDetails || details < apierror.MaxDetails/2 {
			t.Errorf("%s: the details have %d bytes, want at most %d and not much less", name, details, apierror.MaxDetails)
		}
		if wire := 3*len(p.GetMessage()) + proto.Size(p)*4/3; wire > 7<<10 {
			t.Errorf("%s: %d bytes of headers", name, wire)
		}
		got, ok := apierror.From(status.FromProto(p).Err())
		if !ok || len(got.Reason()) > apierror.MaxReason || got.Reason() == "" {
			t.Fatalf("%s: the reason is lost: %v", name, got)
		}
		if after, ok := got.RetryAfter(); !ok || after != time.Hour {
			t.Errorf("%s: the retry is lost", name)
		}
		if vs := got.Violations(); name == "violations" && (len(vs) < 3 || !strings.Contains(vs[len(vs)-1].Description, "more violations are not shown")) {
			t.Errorf("%s: %d violations, the last one is %+v", name, len(vs), vs)
		}
	}
}

// TestShortIsKept: nothing is cut that fits.
func TestShortIsKept(t *testing.T) {
	text := strings.Repeat("ü", apierror.MaxMessage/2)
	if got := shop.New(codes.Internal, "X", text).Message(); got != text {
		t.Errorf("a message of %d bytes became one of %d", len(text), len(got))
	}
	if got := shop.New(codes.Internal, "X", text+"x").Message(); len(got) > apierror.MaxMessage || !strings.HasSuffix(got, "ü…") {
		t.Errorf("the longer one became %q", got)
	}
}

func TestUnmarshal(t *testing.T) {
	for _, tt := range []struct {
		body string
		code codes.Code // OK = an error
		n    int        // details
	}{
		{`{"code":5,"message":"gone"}`, codes.NotFound, 0},
		{`{"code":5,"status":"NOT_FOUND","message":"gone","details":[]}`, codes.NotFound, 0},
		{`{"code":5,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R","new":1}]}`, codes.NotFound, 1},
		{`{"code":5,"details":[{"@type":"type.googleapis.com/no.such.Type","x":1},{"@type":7},{},null,3]}`, codes.NotFound, 0},
		{`{"code":0}`, codes.OK, 0},
		{`{"code":17}`, codes.OK, 0},
		{`{"code":-1}`, codes.OK, 0},
		{`{"code":"5"}`, codes.OK, 0},
		{`{"error":"x"}`, codes.OK, 0},
		{`[]`, codes.OK, 0},
		{``, codes.OK, 0},
		{`{"code":5,"message":"` + strings.Repeat("x", apierror.MaxBody) + `"}`, codes.OK, 0},
	} {
		s, err := apierror.Unmarshal([]byte(tt.body))
		if (err != nil) != (tt.code == codes.OK) {
			t.Errorf("%.80s: %v", tt.body, err)
			continue
		}
		if err == nil && (s.Code() != tt.code || len(s.Details()) != tt.n) {
			t.Errorf("%.80s: %v %v", tt.body, s, s.Details())
		}
	}
}

func TestFromResponse(t *testing.T) {
	body := string(apierror.Marshal(shop.New(codes.NotFound, "GONE", "gone").GRPCStatus()))
	for _, tt := range []struct {
		name   string
		status int
		media  string
		body   string
		want   bool
	}{
		{"an error", 404, "application/json", body, true},
		{"with a charset", 404, "application/json; charset=utf-8", body, true},
		{"success", 200, "application/json", body, false},
		{"text", 404, "text/plain", body, false},
		{"other JSON", 404, "application/json", `{"error":"x"}`, false},
		{"no reason", 404, "application/json", `{"code":5,"message":"gone"}`, false},
		{"too large", 404, "application/json", body + strings.Repeat(" ", apierror.MaxBody), false},
	} {
		resp := &http.Response{StatusCode: tt.status, Header: http.Header{"Content-Type": {tt.media}}, Body: io.NopCloser(strings.NewReader(tt.body))}
		e, ok := apierror.FromResponse(resp)
		if ok != tt.want || ok && (e.Reason() != "GONE" || e.Message() != "gone" || e.Code() != codes.NotFound) {
			t.Errorf("%s: %v, %v", tt.name, e, ok)
		}
		b, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || string(b) != tt.body {
			t.Errorf("%s: afterwards the body is %d bytes, %v", tt.name, len(b), err)
		}
	}
	if _, ok := apierror.FromResponse(nil); ok {
		t.Error("no response is an error")
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(apierror.Marshal(shop.New(codes.NotFound, "GONE", "gone", apierror.Metadata("k", "v"), apierror.Retryable(time.Second),
		apierror.Violations(apierror.Violation{Field: "a[0].b"})).GRPCStatus()))
	f.Add([]byte(`{"code":5,"details":[{"@type":"type.googleapis.com/google.protobuf.Any","value":{"@type":"type.googleapis.com/google.protobuf.Any"}}]}`))
	f.Add([]byte(`{"code":16,"message":"\ud800","details":[{"@type":"/google.rpc.RetryInfo","retryDelay":"-315576000000s"}]}`))
	f.Add([]byte(`{"code":2,"details":[{"@type":"type.googleapis.com/google.protobuf.Struct","value":{"a":[null]}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := apierror.Unmarshal(b)
		if err != nil {
			return
		}
		if s.Code() == codes.OK {
			t.Fatal("an error is OK")
		}
		again, err := apierror.Unmarshal(apierror.Marshal(s))
		if err != nil && len(apierror.Marshal(s)) <= apierror.MaxBody {
			t.Fatalf("what was read is not read again: %v", err)
		}
		if e, ok := apierror.FromStatus(s); ok && err == nil {
			if same, ok := apierror.FromStatus(again); !ok || !errors.Is(same, e) {
				t.Fatalf("%v became %v", e, same)
			}
		}
		if after, _ := apierror.RetryDelay(s.Err()); after < 0 {
			t.Fatalf("a retry %v ago", after)
		}
	})
}
