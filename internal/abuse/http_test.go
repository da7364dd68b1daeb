//go:build unix

package abuse

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// exchange sends raw bytes and reads the answer. A status of 400 and above is a
// clear error, and so is a connection that is closed without one.
func exchange(addr string, raw []byte, want ...int) error {
	c, err := dial(addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	// The server may answer and close while this is still writing.
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = c.Write(raw)
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	defer func() {
		_ = c.Close()
		<-wrote
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		if isTimeout(err) {
			return fmt.Errorf("no answer to %q within %v", clip(raw), patience)
		}
		if len(want) > 0 && errors.Is(err, io.EOF) {
			return fmt.Errorf("%q was answered by closing the connection, want %d", clip(raw), want)
		}
		return nil // closed
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode < 400 || resp.StatusCode == http.StatusInternalServerError {
		return fmt.Errorf("%q was answered with %s: %s", clip(raw), resp.Status, clip(body))
	}
	if len(want) > 0 && !slices.Contains(want, resp.StatusCode) {
		return fmt.Errorf("%q was answered with %s, want %d", clip(raw), resp.Status, want)
	}
	return nil
}

func clip(b []byte) []byte { return b[:min(len(b), 120)] }

// noise is n random bytes.
func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

// variants makes a few requests ahead: large ones take longer to make than to refuse.
func variants(build func(rng *rand.Rand) []byte) func(rng *rand.Rand) []byte {
	some := sync.OnceValue(func() [][]byte {
		var out [][]byte
		for n := range uint64(8) {
			out = append(out, build(rand.New(rand.NewPCG(n, 7))))
		}
		return out
	})
	return func(rng *rand.Rand) []byte { return pick(rng, some()...) }
}

// words are a few random letters.
func words(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(rng.IntN(26))
	}
	return string(b)
}

// garbageLine is a request whose first line or head no server can take.
func garbageLine(rng *rand.Rand) []byte {
	switch rng.IntN(4) {
	case 0: // anything
		return append(noise(rng, 1+rng.IntN(300)), "\r\n\r\n"...)
	case 1: // letters
		return []byte(words(rng, 1+rng.IntN(50)) + " " + words(rng, rng.IntN(50)) + "\r\n\r\n")
	}
	return []byte(pick(rng,
		"GET /ok\r\n\r\n",
		"GET /ok HTTP/9.9\r\nHost: x\r\n\r\n",
		"GET /ok HTTP/1.1\r\n\r\n", // no host
		"GET /ok HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"GET /ok HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET /o\x00k HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET %zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"G\x01T /ok HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /ok HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
		"GET /ok HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n",
		"GET /ok HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
		"GET /ok HTTP/1.1\r\nHost: x\r\nX-A: \x00\r\n\r\n",
		"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\nx",
		"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "+words(rng, 9)+"\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
	))
}

// badChunks is a request whose chunks cannot be taken apart, or end too early.
func badChunks(rng *rand.Rand) []byte {
	body := pick(rng,
		"zz\r\nxx\r\n0\r\n\r\n", "-1\r\nx\r\n0\r\n\r\n", "ffffffffffffffffff\r\nx", "7fffffffffffffff\r\nx", "5\r\nxx", "5\r\nxxxxxxxx\r\n0\r\n\r\n",
		"1\r\nx\r\n", "1\r\nx0\r\n\r\n", "\r\n", "1 1\r\nx\r\n0\r\n\r\n", "0x1\r\nx\r\n0\r\n\r\n", "1\r\nx\r\n0\r\nno colon\r\n\r\n", "+1\r\nx\r\n0\r\n\r\n",
		"1;"+strings.Repeat("e", 5000)+"\r\nx\r\n0\r\n\r\n", string(noise(rng, 1+rng.IntN(100))), words(rng, 20)+"\r\n",
	)
	return []byte("POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
}

// badJSON is what an endpoint that wants JSON cannot take.
func badJSON(rng *rand.Rand) string {
	return pick(rng, "{", `{"level":`, `{"level":1}`, `{"level":"`+words(rng, 10)+`"}`, `{"level":{"level":"info"}}`, `[`, "nul", "\xff\xfe", `"\ud800`,
		strings.Repeat("[", 900), strings.Repeat(`{"level":`, 100), string(noise(rng, 1+rng.IntN(100))), "{}", "[]", `{"level":null}`)
}

// badNote is what is no test.rest.v1.Note in JSON.
func badNote(rng *rand.Rand) []byte {
	json := pick(rng, `{"count":"`+words(rng, 5)+`"}`, `{"count":1e99}`, `{"count":1.5}`, `{"text":1}`, `{"text":"x"`, `{"text":"x",}`, `{"text":"\ud800"}`, "{\"text\":\"\xff\"}",
		`{"text":"a","text":"b"}`, `[]`, `"x"`, "nul", strings.Repeat("[", 20_000), strings.Repeat(`{"text":`, 2000), string(noise(rng, 1+rng.IntN(100))))
	return fmt.Appendf(nil, "PUT /v1/notes/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(json), json)
}

func httpKinds() []kind {
	request := func(build func(rng *rand.Rand) []byte, want ...int) func(string, *rand.Rand) error {
		return func(addr string, rng *rand.Rand) error { return exchange(addr, build(rng), want...) }
	}
	manyHeaders := func(rng *rand.Rand) []byte {
		var b strings.Builder
		b.WriteString("GET /ok HTTP/1.1\r\nHost: x\r\n")
		for b.Len() < 128<<10 {
			fmt.Fprintf(&b, "X-%s: %s\r\n", words(rng, 8), words(rng, 1+rng.IntN(200)))
		}
		return []byte(b.String() + "\r\n")
	}
	oneHeader := func(rng *rand.Rand) []byte {
		return []byte("GET /ok HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat(words(rng, 1), 128<<10) + "\r\n\r\n")
	}
	longLine := func(rng *rand.Rand) []byte {
		return []byte("GET /" + strings.Repeat(words(rng, 1), 128<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	body := func(*rand.Rand) []byte {
		return fmt.Appendf(nil, "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", maxBody+1, strings.Repeat("x", maxBody+1))
	}
	chunkedBody := func(*rand.Rand) []byte {
		chunk := fmt.Sprintf("%x\r\n%s\r\n", 1<<10, strings.Repeat("x", 1<<10))
		return []byte("POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat(chunk, maxBody>>10+1) + "0\r\n\r\n")
	}
	hugeClaim := func(rng *rand.Rand) []byte {
		return fmt.Appendf(nil, "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nx", int64(maxBody)+1+rng.Int64N(1<<60))
	}
	setLevel := func(rng *rand.Rand) []byte {
		json := badJSON(rng)
		return fmt.Appendf(nil, "PUT /debug/log HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(json), json)
	}
	headers := variants(manyHeaders)
	return []kind{
		{"HTTP garbage", toHTTP, request(garbageLine)},
		{"admin garbage", toAdmin, request(garbageLine)},
		{"HTTP bad chunks", toHTTP, request(badChunks, http.StatusBadRequest)},
		{"HTTP headers too many", toHTTP, request(headers, http.StatusRequestHeaderFieldsTooLarge)},
		{"HTTP header too long", toHTTP, request(oneHeader, http.StatusRequestHeaderFieldsTooLarge)},
		{"HTTP line too long", toHTTP, request(longLine, http.StatusRequestHeaderFieldsTooLarge)},
		{"admin headers too many", toAdmin, request(headers, http.StatusRequestHeaderFieldsTooLarge)},
		{"HTTP body too large", toHTTP, request(body, http.StatusRequestEntityTooLarge)},
		{"HTTP chunked body too large", toHTTP, request(chunkedBody, http.StatusRequestEntityTooLarge)},
		{"HTTP body claims too much", toHTTP, request(hugeClaim, http.StatusRequestEntityTooLarge)},
		{"admin bad JSON", toAdmin, request(setLevel, http.StatusBadRequest)},
		{"REST bad JSON", toHTTP, request(badNote, http.StatusBadRequest)},
		{"HTTP/1 at the gRPC port", toGRPC, request(garbageLine)},
	}
}
