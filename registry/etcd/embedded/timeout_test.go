package embedded

import (
	"strings"
	"testing"
	"time"
)

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	s, err := Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	second, err := start(dir, options{timeout: 200 * time.Millisecond})
	if err == nil {
		second.Close()
		t.Fatal("a second server started on the directory of the first")
	}
	if want := "does another etcd use the directory"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want it to contain %q", err, want)
	}
}
