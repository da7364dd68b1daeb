package server_test

import (
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"plinth.internal/server"
	"plinth.internal/server/gateway/testdata/restv1"
)

func frame(t *testing.T, flag byte, m proto.Message) string {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(b))), b...))
}

// frames takes a response apart: its messages, and its trailers as text.
func frames(t *testing.T, body string, text bool) (list []*restv1.Note, trailers string) {
	t.Helper()
	var told strings.Builder
	raw := []byte(body)
	if text {
		raw = nil
		for _, part := range strings.SplitAfter(body, "=") { // padded wherever a frame ends
			if strings.Trim(part, "=") == "" {
				continue
			}
			for len(part)%4 != 0 {
				part += "="
			}
			b, err := base64.StdEncoding.DecodeString(part)
			if err != nil {
				t.Fatalf("%q: %v", part, err)
			}
			raw = append(raw, b...)
		}
	}
	for len(raw) > 0 {
		if len(raw) < 5 {
			t.Fatalf("%q ends within a frame", body)
		}
		n := binary.BigEndian.Uint32(raw[1:])
		content := raw[5 : 5+n]
		if raw[0] == 0x80 {
			told.Write(content)
		} else {
			m := new(restv1.Note)
			if err := proto.Unmarshal(content, m); err != nil {
				t.Fatal(err)
			}
			list = append(list, m)
		}
		raw = raw[5+n:]
	}
	return list, told.String()
}

// TestGRPCWeb makes calls as a browser's library does.
func TestGRPCWeb(t *testing.T) {
	s, _, url := serveNotes(t, func(cfg *server.Config) {
		cfg.HTTP.GRPCWeb = true
		cfg.HTTP.MaxBody = 1000
	})
	get := func(id string) string { return frame(t, 0, &restv1.GetRequest{Id: id, Count: 7}) }
	long := frame(t, 0, &restv1.Note{Text: strings.Repeat("x", 2000)})
	for _, tc := range []struct {
		name, method, body string
		header             []string
		messages           int
		want               []string // of the trailers
		call               string
	}{
		{"unary", "Get", get("a"), nil, 1, []string{"grpc-status: 0\r\n"}, "test.rest.v1.Notes/Get OK"},
		{"without route", "Plain", get("a"), nil, 1, []string{"grpc-status: 0\r\n"}, "test.rest.v1.Notes/Plain OK"},
		{"stream", "List", get(""), nil, 3, []string{"grpc-status: 0\r\n", "x-trailer: t\r\n"}, "test.rest.v1.Notes/List OK"},
		{"client stream", "Add", frame(t, 0, &restv1.Note{Count: 1}) + frame(t, 0, &restv1.Note{Count: 2}), nil, 1, []string{"grpc-status: 0"}, "test.rest.v1.Notes/Add OK"},
		{
			"error", "Get", get("missing"), nil, 0,
			[]string{"grpc-status: 6\r\n", "grpc-message: there is one\r\n", "grpc-status-details-bin: ", "x-trailer: t\r\n"}, "test.rest.v1.Notes/Get ALREADY_EXISTS",
		},
		{"error of a stream", "List", get("broken"), nil, 3, []string{"grpc-status: 15\r\n"}, "test.rest.v1.Notes/List DATA_LOSS"},
		{"panic", "Get", get("panic"), nil, 0, []string{"grpc-status: 13\r\n"}, "test.rest.v1.Notes/Get INTERNAL"},
		{"metadata", "Get", get("metadata"), []string{"X-Color", "red"}, 1, []string{"grpc-status: 0\r\n"}, "test.rest.v1.Notes/Get OK"},
		{"deadline", "Get", get("deadline"), []string{"Grpc-Timeout", "50m"}, 0, []string{"grpc-status: 4\r\n"}, "test.rest.v1.Notes/Get DEADLINE_EXCEEDED"},
		{"no such method", "Nothing", get("a"), nil, 0, []string{"grpc-status: 12\r\n"}, "unmatched UNIMPLEMENTED"},
		{"no message", "Get", "", nil, 0, []string{"grpc-status: 3\r\n", "has no message"}, "test.rest.v1.Notes/Get INVALID_ARGUMENT"},
		{"cut off", "Get", get("a")[:7], nil, 0, []string{"grpc-status: 3\r\n", "cut off after 2 of "}, "test.rest.v1.Notes/Get INVALID_ARGUMENT"},
		{"head cut off", "Get", get("a")[:3], nil, 0, []string{"grpc-status: 3\r\n", "cut off after 3 of 5"}, "test.rest.v1.Notes/Get INVALID_ARGUMENT"},
		{"compressed", "Get", frame(t, 1, &restv1.GetRequest{}), nil, 0, []string{"grpc-status: 12\r\n", "compressed"}, "test.rest.v1.Notes/Get UNIMPLEMENTED"},
		{"flags", "Get", frame(t, 8, &restv1.GetRequest{}), nil, 0, []string{"grpc-status: 3\r\n", "flags 0x08"}, "test.rest.v1.Notes/Get INVALID_ARGUMENT"},
		{"no protobuf", "Get", "\x00\x00\x00\x00\x02\xff\xff", nil, 0, []string{"grpc-status: 3\r\n", "decode the request"}, "test.rest.v1.Notes/Get INVALID_ARGUMENT"},
		{"lies of its length", "Get", "\x00\xff\xff\xff\xff\x00", nil, 0, []string{"grpc-status: 3\r\n", "cut off after 1 of 4294967295"}, "test.rest.v1.Notes/Get INVALID_ARGUMENT"},
		{"too large", "Put", long, nil, 0, []string{"grpc-status: 9\r\n", "max_body"}, "test.rest.v1.Notes/Put FAILED_PRECONDITION"},
		{"json", "Get", "{}", []string{"Content-Type", "application/grpc-web+json"}, 0, []string{"grpc-status: 12\r\n"}, "test.rest.v1.Notes/Get UNIMPLEMENTED"},
		{"bad header", "Get", get("a"), []string{"Raw-Bin", "!"}, 0, []string{"grpc-status: 3\r\n", "raw-bin"}, "test.rest.v1.Notes/Get INVALID_ARGUMENT"},
	} {
		for _, kind := range []string{"application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"} {
			text := strings.Contains(kind, "text")
			body := tc.body
			if text {
				body = base64.StdEncoding.EncodeToString([]byte(body))
			}
			header := append([]string{"Content-Type", kind, "X-Grpc-Web", "1"}, tc.header...)
			code, got, answer := request(t, http.MethodPost, url+"/test.rest.v1.Notes/"+tc.method, body, header...)
			name := tc.name + " as " + kind
			wantType := "application/grpc-web+proto"
			if text && !slices.Contains(tc.header, "Content-Type") {
				wantType = "application/grpc-web-text+proto"
			}
			if code != 200 || got.Get("Content-Type") != wantType {
				t.Errorf("%s: %d %v", name, code, got)
				s.take()
				continue
			}
			list, trailers := frames(t, answer, wantType != "application/grpc-web+proto")
			if len(list) != tc.messages {
				t.Errorf("%s: messages %v", name, list)
			}
			for _, want := range tc.want {
				if !strings.Contains(trailers, want) {
					t.Errorf("%s: trailers %q have no %q", name, trailers, want)
				}
			}
			if calls := s.take(); len(calls) != 1 || calls[0] != "server_http "+tc.call {
				t.Errorf("%s: the chain saw %q", name, calls)
			}
			if tc.name == "unary" && (got.Get("X-Header") != "h" || list[0].GetCount() != 7) {
				t.Errorf("%s: %v %v", name, got, list)
			}
		}
	}
	_, _, answer := request(t, http.MethodPost, url+"/test.rest.v1.Notes/Get", get("a"), "Content-Type", "application/grpc-web", "X-Refuse", "1")
	if _, trailers := frames(t, answer, false); !strings.Contains(trailers, "grpc-status: 16\r\n") {
		t.Errorf("refused by the chain: %q", trailers)
	}
	_, _, answer = request(t, http.MethodPost, url+"/test.rest.v1.Notes/Get", "!!!!", "Content-Type", "application/grpc-web-text")
	if _, trailers := frames(t, answer, true); !strings.Contains(trailers, "grpc-status: 3\r\n") {
		t.Errorf("no base64: %q", trailers)
	}
}

// TestGRPCWebOff: it is not there unless asked for.
func TestGRPCWebOff(t *testing.T) {
	_, _, url := serveNotes(t, nil)
	body := frame(t, 0, &restv1.GetRequest{})
	if code, _, _ := request(t, http.MethodPost, url+"/test.rest.v1.Notes/Get", body, "Content-Type", "application/grpc-web"); code != 404 {
		t.Errorf("status %d", code)
	}
}
