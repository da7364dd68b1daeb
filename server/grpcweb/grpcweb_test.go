package grpcweb

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestIs(t *testing.T) {
	for kind, want := range map[string]bool{
		"application/grpc-web": true, "application/grpc-web+proto": true, "application/grpc-web-text; charset=utf-8": true,
		"application/grpc": false, "application/grpc-webs": false, "application/json": false, "": false, ";": false,
	} {
		r := httptest.NewRequest(http.MethodPost, "/a/b", http.NoBody)
		r.Header.Set("Content-Type", kind)
		if got := Is(r); got != want {
			t.Errorf("%q: %v", kind, got)
		}
	}
}

func TestPercent(t *testing.T) {
	for in, want := range map[string]string{"plain text": "plain text", "100%": "100%25", "a\r\nb": "a%0D%0Ab", "ü": "%C3%BC"} {
		if got := percent(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestTextReader: base64 with padding anywhere, in pieces of any size.
func TestTextReader(t *testing.T) {
	for _, tc := range []struct{ in, want, err string }{
		{"", "", ""},
		{"YWJj", "abc", ""},
		{"YQ==YmM=", "abc", ""},
		{"YWJ", "", "illegal base64"},
		{"YWJjZ", "abc", "illegal base64"},
		{"YWJj!!!!", "abc", "illegal base64 data at input byte 4"},
		{"Y===", "", "illegal base64"},
	} {
		for _, from := range []io.Reader{strings.NewReader(tc.in), iotest.OneByteReader(strings.NewReader(tc.in)), iotest.DataErrReader(strings.NewReader(tc.in))} {
			got, err := io.ReadAll(&textReader{from: from})
			if string(got) != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: %q, %v; want %q, %s", tc.in, got, err, tc.want, tc.err)
			}
		}
	}
}

// FuzzFrames holds the reader of frames to its promise for any body: messages,
// then io.EOF or an error that says what is wrong, with no more memory than the
// body has bytes, and the same whether it is in base64 or not.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x01a"), false)
	f.Add([]byte("\x00\x00\x00\x00\x00\x80\x00\x00\x00\x01x"), false)
	f.Add([]byte("\x00\xff\xff\xff\xff"), false)
	f.Add([]byte("\x01\x00\x00"), false)
	f.Add([]byte("AAAAAAFh"), true)
	f.Add([]byte("AA==AAAAAWE="), true)
	f.Add([]byte("A=A="), true)
	f.Fuzz(func(t *testing.T, body []byte, text bool) {
		list, err := all(body, text)
		total := 0
		for _, b := range list {
			total += len(b) + frameHead
		}
		if total > len(body) {
			t.Fatalf("%d bytes of frames in a body of %d", total, len(body))
		}
		if !errors.Is(err, io.EOF) {
			if c := status.Code(err); c != codes.InvalidArgument && c != codes.Unimplemented {
				t.Fatalf("error %v", err)
			}
		}
		if text {
			return
		}
		again, err2 := all([]byte(base64.StdEncoding.EncodeToString(body)), true)
		if len(again) != len(list) || errors.Is(err, io.EOF) != errors.Is(err2, io.EOF) {
			t.Fatalf("in base64: %q, %v; else %q, %v", again, err2, list, err)
		}
		for _, b := range list {
			if got, err := readFrame(bytes.NewReader(appendFrame(nil, 0, b))); err != nil || !bytes.Equal(got, b) {
				t.Fatalf("%q becomes %q, %v", b, got, err)
			}
		}
	})
}

func all(body []byte, text bool) (list [][]byte, err error) {
	var from io.Reader = bytes.NewReader(body)
	if text {
		from = &textReader{from: from}
	}
	for {
		b, err := readFrame(from)
		if err != nil {
			return list, err
		}
		list = append(list, b)
	}
}
