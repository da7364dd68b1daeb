package zookeeper

import (
	"strings"
	"testing"
	"time"
)

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name    string
		servers []string
		opts    []Option
		want    string // empty: no error
	}{
		{"one server", []string{"10.0.0.1:2181"}, nil, ""},
		{"deep namespace", []string{"10.0.0.1:2181"}, []Option{WithNamespace("a/b/")}, ""},
		{"no server", nil, nil, "no server"},
		{"no port", []string{"10.0.0.1:2181", "zk"}, nil, `server "zk": must be host:port`},
		{"no host", []string{":2181"}, nil, "must be host:port"},
		{"root namespace", []string{"10.0.0.1:2181"}, []Option{WithNamespace("/")}, "empty parts"},
		{"hole in namespace", []string{"10.0.0.1:2181"}, []Option{WithNamespace("/a//b")}, "empty parts"},
		{"dots in namespace", []string{"10.0.0.1:2181"}, []Option{WithNamespace("/a/../b")}, "'..'"},
		{"blank in namespace", []string{"10.0.0.1:2181"}, []Option{WithNamespace("/a b")}, "printable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg, err := Open(tt.servers, tt.opts...)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := reg.Kind(); got != "zookeeper" {
					t.Errorf("Kind = %q", got)
				}
				if err := reg.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	var h hosts
	if err := h.Init([]string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	next := func(want string, pause bool) {
		t.Helper()
		if name, paused := h.Next(); name != want || paused != pause {
			t.Errorf("Next = %s, %v; want %s, %v", name, paused, want, pause)
		}
	}
	next("a", false)
	next("b", false)
	next("a", true) // both were tried in vain
	next("b", false)
	h.Connected()
	next("a", true) // b hung up at once
	next("b", false)
	next("a", true)
	h.Connected()
	h.since = h.since.Add(-time.Minute)
	next("b", false) // a was fine for a while
}
