package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"plinth.internal/internal/conformance/api"
)

func TestFrame(t *testing.T) {
	var b bytes.Buffer
	want := []*api.ServerCompatResponse{{Host: "127.0.0.1", Port: 9000}, {}, {Port: 1}}
	for _, m := range want {
		if err := writeFrame(&b, m); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range want {
		got := new(api.ServerCompatResponse)
		if err := readFrame(&b, got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, m) {
			t.Errorf("%v, want %v", got, m)
		}
	}
	if err := readFrame(&b, new(api.ServerCompatResponse)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestFrameThatIsWrong(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"no whole length", "\x00\x00", "read length of a message: unexpected EOF"},
		{"no message", "\x00\x00\x00\x02", "read message of 2 bytes: unexpected EOF"},
		{"half a message", "\x00\x00\x00\x02a", "read message of 2 bytes: unexpected EOF"},
		{"too long", "\xff\xff\xff\xff", "it has 4294967295 bytes, more than 67108864"},
		{"no protobuf", "\x00\x00\x00\x01\xff", "decode message: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := readFrame(strings.NewReader(tt.in), new(api.ServerCompatResponse))
			if err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestWrongUse(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no mode", nil, 1, `-mode is "", want server or client`},
		{"other mode", []string{"-mode", "both"}, 1, `-mode is "both"`},
		{"other flag", []string{"-x"}, 2, "flag provided but not defined: -x"},
		{"argument", []string{"-mode", "server", "now"}, 1, `"now" is none of the flags`},
		{"nothing asked", []string{"-mode", "server"}, 1, "read what server to start: EOF"},
		{"help", []string{"-help"}, 0, "-mode what"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(tt.args, strings.NewReader(""), &out, &errs); code != tt.code || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("exit code %d, want %d; said %q, want %q", code, tt.code, errs.String(), tt.want)
			}
			if out.Len() > 0 {
				t.Errorf("wrote %q to the runner", out.String())
			}
		})
	}
}

func TestOtherServers(t *testing.T) {
	for _, req := range []*api.ServerCompatRequest{
		{Protocol: api.Protocol_PROTOCOL_GRPC, HttpVersion: api.HTTPVersion_HTTP_VERSION_2, UseTls: true},
		{Protocol: 1, HttpVersion: api.HTTPVersion_HTTP_VERSION_2},
		{Protocol: api.Protocol_PROTOCOL_GRPC, HttpVersion: 1},
	} {
		var in, out bytes.Buffer
		if err := writeFrame(&in, req); err != nil {
			t.Fatal(err)
		}
		err := runServer(t.Context(), &in, &out, bareServer)
		if err == nil || !strings.Contains(err.Error(), "gRPC over HTTP/2 without TLS") {
			t.Errorf("%v: %v, want an error", req, err)
		}
	}
}
