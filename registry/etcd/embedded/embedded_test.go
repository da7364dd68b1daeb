package embedded_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"plinth.internal/internal/loopback"
	"plinth.internal/registry/etcd/embedded"
)

func client(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRestartKeepsDataAndAddress(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "made", "by", "start")
	addr, err := new(loopback.Addresses).Next()
	if err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(dir, embedded.WithClientAddr(addr))
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, s.Endpoint())
	if _, err := c.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	watch := c.Watch(ctx, "k") // an open stream must not delay Close
	began := time.Now()
	s.Close()
	s.Close()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Close took %v with an open watch", took)
	}

	again, err := embedded.Start(dir, embedded.WithClientAddr(s.Endpoint()))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Endpoint() != s.Endpoint() {
		t.Errorf("Endpoint = %s after a restart, want %s", again.Endpoint(), s.Endpoint())
	}
	got, err := c.Get(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
		t.Errorf("Get = %v after a restart, want v", got.Kvs)
	}
	cancel()
	for range watch {
	}
}

func TestStartRefuses(t *testing.T) {
	running, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	if err := os.MkdirAll(filepath.Join(damaged, "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(damaged, "member", "snap", "db"), []byte(strings.Repeat("no database", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, dir, addr, want string
	}{
		{"address of everybody", t.TempDir(), "0.0.0.0:0", "must be on the loopback interface"},
		{"no port", t.TempDir(), "127.0.0.1", "read client address"},
		{"port in use", t.TempDir(), running.Endpoint(), "address already in use"},
		{"directory is a file", file, "", "start embedded etcd in " + file},
		{"directory is damaged", damaged, "", "invalid database"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := embedded.Start(tt.dir, embedded.WithClientAddr(tt.addr))
			if err == nil {
				s.Close()
				t.Fatal("Start returned no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to contain %q", err, tt.want)
			}
		})
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		s, err := embedded.Start(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
