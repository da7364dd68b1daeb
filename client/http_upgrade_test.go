package client_test

import (
	"bufio"
	"io"
	"net/http"
	"testing"

	"plinth.internal/client"
)

// upgrading runs an instance that gives its connections to whoever asks for one, and
// sends back what comes on them. The channel is told of each that ends.
func upgrading(t *testing.T, w *world) <-chan struct{} {
	t.Helper()
	ended := make(chan struct{}, 8)
	w.web(t, "a", func(rw http.ResponseWriter, r *http.Request) {
		conn, both, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close(); ended <- struct{}{} }()
		_, _ = both.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = both.Flush()
		_, _ = io.Copy(conn, both)
	})
	return ended
}

// upgrade asks for a connection, and sees that it goes both ways.
func upgrade(t *testing.T, h *http.Client) io.ReadWriteCloser {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://echo/path", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "echo")
	resp, err := h.Do(r) //nolint:bodyclose // the body is the connection that is returned
	if err != nil {
		t.Fatal(err)
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d with a %T", resp.StatusCode, resp.Body)
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	return conn
}

// TestUpgradedEndsWithItsClient: a connection that is its caller's lasts until that
// closes it, and no longer than the client.
func TestUpgradedEndsWithItsClient(t *testing.T) {
	w := newWorld(t, client.WithSettings(inTurn))
	ended := upgrading(t, w)
	h := w.client.HTTP("echo")
	first, second := upgrade(t, h), upgrade(t, h)
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	<-ended
	if _, err := io.WriteString(second, "x"); err != nil {
		t.Errorf("the other one: %v", err)
	}
	if err := w.client.Close(); err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(second, "x"); err == nil {
		t.Error("it can be written to after its client was closed")
	}
	<-ended
	_ = second.Close()
}
