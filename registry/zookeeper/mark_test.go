package zookeeper

import (
	"strings"
	"testing"
	"time"
)

func TestParseMark(t *testing.T) {
	tests := []struct {
		name string
		id   string // empty: not a mark
	}{
		{".1764000000000.o-1", "o-1"},
		{".1764000000000.a.b", "a.b"},
		{".1764000000000.", ""},
		{".1764000000000", ""},
		{"..o-1", ""},
		{".x.o-1", ""},
		{"o-1", ""},
		{"", ""},
	}
	for _, tt := range tests {
		m, ok := parseMark(tt.name)
		if ok != (tt.id != "") || m.id != tt.id {
			t.Errorf("parseMark(%q) = %+v, %v; want the ID %q", tt.name, m, ok, tt.id)
		}
	}
	now := time.UnixMilli(1764000000000)
	for age, want := range map[time.Duration]bool{0: false, markLife: false, markLife + 1: true, -2 * markLife: true} {
		if got := (mark{now.Add(-age), "x"}).outlived(now); got != want {
			t.Errorf("a mark of %v outlived: %v, want %v", age, got, want)
		}
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add(".1764000000000.o-1")
	f.Add("..")
	f.Add(".-0.x")
	f.Fuzz(func(t *testing.T, name string) {
		m, ok := parseMark(name)
		if !ok {
			return
		}
		if !strings.HasPrefix(name, ".") || !strings.HasSuffix(name, "."+m.id) {
			t.Errorf("parseMark(%q) has the ID %q", name, m.id)
		}
		if again, ok := parseMark(m.String()); !ok || again.id != m.id || !again.at.Equal(m.at) {
			t.Errorf("%+v written and read again: %+v, %v", m, again, ok)
		}
	})
}
