package framework_test

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"time"
)

// lockedBuffer takes the log of a running app while the test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// advance lets virtual time pass; it is for tests in a synctest bubble only.
func advance(d time.Duration) { <-time.After(d) }

// fetchPage reads a page.
func fetchPage(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
