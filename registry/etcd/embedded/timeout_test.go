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
	ended := make(chan struct{})
	defer func() {
		s.Close()
		<-ended // the other one begins now, and uses the directory until it is closed
	}()
	second, err := start(dir, options{timeout: 200 * time.Millisecond, abandoned: func() { close(ended) }})
	if err == nil {
		second.Close()
		close(ended)
		t.Fatal("a second server started on the directory of the first")
	}
	if want := "does another etcd use the directory"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want it to contain %q", err, want)
	}
}
