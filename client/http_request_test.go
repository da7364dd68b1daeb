package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/middleware"
)

var errOfBody = errors.New("the disk is gone")

// failingBody ends with an error after a few bytes.
func failingBody(err error) io.Reader {
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "some")
		_ = w.CloseWithError(err)
	}()
	return r
}

// TestHTTPOwnMistakes: what is wrong with a request is its caller's affair. It is said
// as such, not sent again, and held against nobody.
func TestHTTPOwnMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, method string
		body         func() io.Reader
		change       func(r *http.Request)
		want         codes.Code
		is           error
		says         string
	}{
		{name: "header value", method: http.MethodGet, change: func(r *http.Request) { r.Header.Set("X-Note", "two\nlines") },
			want: codes.InvalidArgument, says: `the value of the header "X-Note" is not valid`},
		{name: "header name", method: http.MethodGet, change: func(r *http.Request) { r.Header["X Note"] = []string{"x"} },
			want: codes.InvalidArgument, says: `the name of the header "X Note" is not valid`},
		{name: "method", method: http.MethodGet, change: func(r *http.Request) { r.Method = "GE T" },
			want: codes.InvalidArgument, says: `the method is "GE T"`},
		{name: "trailer", method: http.MethodPost, body: func() io.Reader { return strings.NewReader("x") },
			change: func(r *http.Request) { r.Trailer = http.Header{"X-Note": {"two\nlines"}} },
			want:   codes.InvalidArgument, says: `the value of the trailer "X-Note" is not valid`},
		{name: "body fails", method: http.MethodPost, body: func() io.Reader { return failingBody(errOfBody) },
			want: codes.InvalidArgument, is: errOfBody, says: `call service "echo": write the request: the disk is gone`},
		{name: "body of a PUT fails", method: http.MethodPut, body: func() io.Reader { return failingBody(errOfBody) },
			want: codes.InvalidArgument, is: errOfBody},
		{name: "body ends as its source was canceled", method: http.MethodPost, body: func() io.Reader { return failingBody(context.Canceled) },
			want: codes.Canceled, is: context.Canceled},
		{name: "body too short", method: http.MethodPut, body: func() io.Reader { return strings.NewReader("hello") },
			change: func(r *http.Request) { r.ContentLength = 10 }, want: codes.InvalidArgument, says: "ContentLength=10"},
		{name: "query", method: http.MethodGet, change: func(r *http.Request) { r.URL.RawQuery = "a\nb" },
			want: codes.InvalidArgument, says: "control character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := httpSettings(t, client.Settings{Timeout: 30 * time.Second, Balancer: balancer.NameRoundRobin, Breaker: breaker.Config{Policy: breaker.PolicyClassic}})
			for _, id := range []string{"a", "b"} {
				w.pooled(t, id, func(rw http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(rw, id)
				})
			}
			h := w.client.HTTP("echo")
			webConnected(t, h, 2)
			for range 30 {
				var body io.Reader
				if tt.body != nil {
					body = tt.body()
				}
				r, err := http.NewRequestWithContext(t.Context(), tt.method, "http://echo/", body)
				if err != nil {
					t.Fatal(err)
				}
				if tt.change != nil {
					tt.change(r)
				}
				err = drain(h.Do(r))
				if middleware.Code(err) != tt.want || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
					t.Fatalf("code %v, want %v: %v", middleware.Code(err), tt.want, err)
				}
			}
			answered := map[string]int{}
			for range 20 {
				if status, id, err := text(t, h, http.MethodGet, nil); err != nil || status != http.StatusOK {
					t.Fatalf("a good request: status %d, %v", status, err)
				} else {
					answered[id]++
				}
			}
			if told := recorded[client.CallRetried](w.events); len(told) > 0 {
				t.Errorf("%d were sent again: %+v", len(told), told[0])
			}
			if told := recorded[client.InstanceEjected](w.events); len(told) > 0 {
				t.Errorf("ejected: %+v", told)
			}
			if len(answered) != 2 {
				t.Errorf("good requests were answered by %v, want both instances", answered)
			}
		})
	}
}
