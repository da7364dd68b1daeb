package client

import (
	"io"
	"net/http"
)

// upgraded is a connection that has become the caller's, by the response 101 to a
// request to upgrade it, as for a WebSocket. It is no call any more, and lasts until
// its caller or the client is closed.
type upgraded struct {
	io.ReadWriteCloser

	client *Client
}

// upgrade keeps the connection of such a response, so that it is closed with the
// client. It errs if that is closed already.
func (s *service) upgrade(resp *http.Response) error {
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		return nil
	}
	c := s.client
	u := &upgraded{ReadWriteCloser: conn, client: c}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.upgraded[u] = struct{}{}
	}
	c.mu.Unlock()
	if closed {
		_ = conn.Close()
		return s.closed()
	}
	resp.Body = u
	return nil
}

// Close closes the connection.
func (u *upgraded) Close() error {
	u.client.mu.Lock()
	delete(u.client.upgraded, u)
	u.client.mu.Unlock()
	return u.ReadWriteCloser.Close()
}
