package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/emptypb"

	"plinth.internal/internal/tlsfiles/tlstest"
	"plinth.internal/server"
)

// sharedConfig has one listener for gRPC and HTTP.
func sharedConfig(t *testing.T) server.Config {
	t.Helper()
	l := listen(t)
	cfg := loopback()
	delete(cfg.Addrs, server.GRPC)
	delete(cfg.Addrs, server.HTTP)
	cfg.Listeners = map[string]net.Listener{server.GRPC: l, server.HTTP: l}
	return cfg
}

func setupShared(s *server.Server) {
	s.RegisterService(&waiterDesc, waiterFunc(func(ctx context.Context) error {
		if p, _ := peer.FromContext(ctx); p.AuthInfo != nil && p.AuthInfo.AuthType() == "tls" {
			_ = grpc.SetHeader(ctx, map[string][]string{"x-tls": {"1"}})
		}
		return nil
	}))
	s.Handle("/echo", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		secure := "plain"
		if r.TLS != nil {
			secure = r.TLS.NegotiatedProtocol
			if len(r.TLS.PeerCertificates) > 0 {
				secure += " " + r.TLS.PeerCertificates[0].Subject.CommonName
			}
		}
		fmt.Fprintf(w, "%s %s %d", r.Proto, secure, len(b))
	}))
}

func transport(t *testing.T, h2 bool, cfg *tls.Config) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2 && cfg != nil)
	protocols.SetUnencryptedHTTP2(h2 && cfg == nil)
	tr := &http.Transport{Protocols: protocols, TLSClientConfig: cfg}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: wait}
}

func post(t *testing.T, c *http.Client, url, body string) string {
	t.Helper()
	resp, err := c.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// TestOnePort: gRPC, HTTP/1 and HTTP/2 on one port, all at once and again and
// again, and a graceful stop.
func TestOnePort(t *testing.T) {
	s, at := serve(t, sharedConfig(t), setupShared)
	if at[server.GRPC] != at[server.HTTP] || at[server.GRPC] == "" {
		t.Fatalf("endpoints %v", at)
	}
	url := "http://" + at[server.HTTP] + "/echo"
	large := strings.Repeat("x", 1<<20)
	done := make(chan struct{}, 3)
	go func() {
		defer func() { done <- struct{}{} }()
		for range 5 {
			cc := dial(t, at[server.GRPC])
			for range 20 {
				if err := callWait(t.Context(), cc); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for _, h2 := range []bool{false, true} {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 5 {
				c := transport(t, h2, nil)
				for i := range 10 {
					body, want := large[:i*100_000], fmt.Sprintf("HTTP/1.1 plain %d", i*100_000)
					if h2 {
						want = fmt.Sprintf("HTTP/2.0 plain %d", i*100_000)
					}
					if got := post(t, c, url, body); got != want {
						t.Errorf("%q, want %q", got, want)
					}
				}
			}
		}()
	}
	for range 3 {
		recv(t, "the end of the calls", done)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", at[server.HTTP], time.Second); err == nil {
		t.Error("the port is open after the stop")
	}
}

// TestOnePortTLS: the same with certificates on both sides.
func TestOnePortTLS(t *testing.T) {
	ca := tlstest.NewAuthority(t, "ca")
	d := tlstest.NewDir(t, t.TempDir(), ca.PEM(), ca.Issue(t, "orders"))
	for _, permissive := range []bool{false, true} {
		cfg := sharedConfig(t)
		cfg.TLS = &server.TLS{CertFile: d.Cert, KeyFile: d.Key, ClientCAFile: d.CA, Permissive: permissive}
		_, at := serve(t, cfg, setupShared)
		url := "https://" + at[server.HTTP] + "/echo"
		mine := caller(t, ca.PEM(), ca.Issue(t, "shop"))
		if got := post(t, transport(t, false, mine.Clone()), url, "abc"); got != "HTTP/1.1 http/1.1 shop 3" && got != "HTTP/1.1  shop 3" {
			t.Errorf("HTTP/1: %q", got)
		}
		if got := post(t, transport(t, true, mine.Clone()), url, "abc"); got != "HTTP/2.0 h2 shop 3" {
			t.Errorf("HTTP/2: %q", got)
		}
		cc, err := grpc.NewClient("passthrough:///"+at[server.GRPC], grpc.WithTransportCredentials(credentials.NewTLS(mine.Clone())))
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		var header metadata.MD
		if err := callWaitHeader(t.Context(), cc, &header); err != nil || len(header["x-tls"]) != 1 {
			t.Errorf("gRPC: %v %v", header, err)
		}
		if permissive {
			if err := callWait(t.Context(), dial(t, at[server.GRPC])); err != nil {
				t.Errorf("gRPC without TLS: %v", err)
			}
			if got := post(t, transport(t, true, nil), "http://"+at[server.HTTP]+"/echo", "abc"); got != "HTTP/2.0 plain 3" {
				t.Errorf("HTTP/2 without TLS: %q", got)
			}
		}
		// A browser that connects ahead is not taken for gRPC.
		ahead := mine.Clone()
		ahead.NextProtos = []string{"h2", "http/1.1"}
		if got := connectAhead(t, at[server.HTTP], ahead); got != "200" {
			t.Errorf("connected ahead: %q", got)
		}
	}
}

// connectAhead opens a connection of HTTP/2 and makes a request after a while.
func connectAhead(t *testing.T, addr string, cfg *tls.Config) (status string) {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(wait))
	conn := raw
	if cfg != nil {
		conn = tls.Client(raw, cfg)
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	<-time.After(1500 * time.Millisecond)
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: "/echo"}} {
		_ = enc.WriteField(f)
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return err.Error()
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.GoAwayFrame:
			return "GOAWAY " + string(f.DebugData())
		}
	}
}

// TestOnePortSniff: nobody waits for a client that says nothing, and what is not
// understood gets an answer or is let go.
func TestOnePortSniff(t *testing.T) {
	_, at := serve(t, sharedConfig(t), setupShared)
	addr := at[server.HTTP]
	for range 50 { // they say nothing, or not enough
		talk(t, addr, "")
		talk(t, addr, "PRI * HT")
		talk(t, addr, http2.ClientPreface)
	}
	if got := post(t, transport(t, false, nil), "http://"+addr+"/echo", ""); got != "HTTP/1.1 plain 0" {
		t.Errorf("HTTP/1 beside them: %q", got)
	}
	cc := dial(t, addr)
	if err := callWait(t.Context(), cc); err != nil {
		t.Errorf("gRPC beside them: %v", err)
	}
	// A client of gRPC that connects long before it calls.
	idle := dial(t, addr)
	idle.Connect()
	<-time.After(1200 * time.Millisecond)
	if err := callWait(t.Context(), idle); err != nil {
		t.Errorf("gRPC after a pause: %v", err)
	}
	_, from := talk(t, addr, "PROST / HTTP/1.1\r\nHost: x\r\n\r\n")
	if status, _ := answer(t, "PROST", from); status != 404 {
		t.Errorf("a verb like the preface: %d", status)
	}
	_, from = talk(t, addr, "\x00\x01garbage and more of it\r\n\r\n")
	if status, _ := answer(t, "garbage", from); status != 400 {
		t.Errorf("garbage: %d", status)
	}
	conn, from := talk(t, addr, http2.ClientPreface+"\xff\xff\xff\x04\x00\x00\x00\x00\x00")
	_ = conn.SetDeadline(time.Now().Add(wait))
	if _, err := io.Copy(io.Discard, from); err != nil && !isReset(err) {
		t.Errorf("a frame that is too large: %v", err)
	}
}

func isReset(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok && !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "timeout")
}

// TestOnePortClose: connections of which nothing is known yet end with the server.
func TestOnePortClose(t *testing.T) {
	s, at := serve(t, sharedConfig(t), setupShared)
	_, from := talk(t, at[server.HTTP], "PRI")
	begun := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := from.ReadByte(); err == nil {
		t.Error("it goes on")
	}
	if took := time.Since(begun); took > wait/2 {
		t.Errorf("Close took %v", took)
	}
}

// TestOnePortAddresses: the same address means one port.
func TestOnePortAddresses(t *testing.T) {
	l := listen(t)
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	for _, tc := range []struct {
		grpc, http string
		one        bool
	}{
		{addr, addr, true},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{":" + port, "0.0.0.0:" + port, true},
		{"localhost:" + port, "LOCALHOST:" + port, true},
	} {
		cfg := loopback()
		cfg.Addrs[server.GRPC], cfg.Addrs[server.HTTP] = tc.grpc, tc.http
		s, at := serve(t, cfg, setupShared)
		if one := at[server.GRPC] == at[server.HTTP]; one != tc.one {
			t.Errorf("%+v: %v", tc, at)
		}
		if err := callWait(t.Context(), dial(t, at[server.GRPC])); err != nil { // both serve by now
			t.Error(err)
		}
		post(t, transport(t, false, nil), "http://"+at[server.HTTP]+"/echo", "")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func callWaitHeader(ctx context.Context, cc *grpc.ClientConn, header *metadata.MD) error {
	return cc.Invoke(ctx, "/test.v1.Waiter/Wait", &emptypb.Empty{}, &emptypb.Empty{}, grpc.Header(header))
}
