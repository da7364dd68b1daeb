package apierror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/code"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// MaxBody is how much of a response is read to find an error in it, in bytes. A
// larger one holds none.
const MaxBody = 64 << 10

// document is google.rpc.Status in JSON. Beside its fields it has the code's name,
// for those who read it.
type document struct {
	Code    int32             `json:"code"`
	Status  string            `json:"status"`
	Message string            `json:"message"`
	Details []json.RawMessage `json:"details,omitempty"`
}

// Marshal writes a status as google.rpc.Status in JSON: the body of an HTTP
// response. A detail is in protobuf's JSON with its "@type"; one whose type is not
// linked into this program cannot be written so and is left out.
func Marshal(s *status.Status) []byte {
	p := s.Proto()
	doc := document{Code: p.GetCode(), Status: "OTHER", Message: p.GetMessage()}
	if name, ok := code.Code_name[p.GetCode()]; ok {
		doc.Status = name
	}
	for _, d := range p.GetDetails() {
		if b, err := protojson.Marshal(d); err == nil {
			doc.Details = append(doc.Details, b)
		}
	}
	b, err := json.Marshal(doc) // takes the spaces out that protobuf puts in by chance
	if err != nil {
		return []byte(`{}`) // strings, a number and JSON: cannot happen, and must not hide the error
	}
	return b
}

// Unmarshal reads what [Marshal] writes, and any other google.rpc.Status in JSON.
// Details that are not known or broken are left out. It errs on what is no JSON
// object with a code of an error.
func Unmarshal(b []byte) (*status.Status, error) {
	if len(b) > MaxBody {
		return nil, fmt.Errorf("read status: %d bytes are more than %d", len(b), MaxBody)
	}
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	if _, known := code.Code_name[doc.Code]; !known || doc.Code == 0 {
		return nil, errors.New("read status: it has no code of an error")
	}
	p := &spb.Status{Code: doc.Code, Message: doc.Message}
	for _, d := range doc.Details {
		a := &anypb.Any{}
		if (protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 100}).Unmarshal(d, a) == nil && a.GetTypeUrl() != "" {
			p.Details = append(p.Details, a)
		}
	}
	return status.FromProto(p), nil
}

// FromResponse finds the typed error in an HTTP response of 400 and above. It reads
// up to [MaxBody] bytes of the body, which can be read again afterwards from its
// beginning, and still must be closed. It reports false for every other response,
// one whose body is no google.rpc.Status in JSON or has no reason, and for nil.
func FromResponse(resp *http.Response) (*Error, bool) {
	if resp == nil || resp.Body == nil || resp.StatusCode < http.StatusBadRequest || !IsJSON(resp.Header) {
		return nil, false
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	resp.Body = &prefixedBody{Reader: io.MultiReader(bytes.NewReader(head), resp.Body), Closer: resp.Body}
	if err != nil {
		return nil, false //nolint:nilerr // who reads the body gets it again
	}
	s, err := Unmarshal(head)
	if err != nil {
		return nil, false //nolint:nilerr // it is another kind of response
	}
	return FromStatus(s)
}

type prefixedBody struct {
	io.Reader
	io.Closer
}

// IsJSON reports whether a header says that the body is JSON.
func IsJSON(h http.Header) bool {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && media == "application/json"
}
