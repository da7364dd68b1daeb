package health

import (
	"strings"
	"sync"
	"testing"
)

func TestPick(t *testing.T) {
	const dump = `goroutine 1 [running]:
main.main()
	/src/main.go:1 +0x1

goroutine 12 [chan receive, 3 minutes]:
main.loop()
	/src/main.go:2 +0x2
created by main.main in goroutine 1
	/src/main.go:3 +0x3

goroutine 123 [select (no cases)]:
main.idle()

not a goroutine at all

goroutine x [running]:
`
	got := pick([]byte(dump), []uint64{12, 123, 7})
	if len(got) != 2 || !strings.HasPrefix(got[12], "goroutine 12 [chan receive, 3 minutes]:\nmain.loop()") ||
		!strings.HasSuffix(got[12], "/src/main.go:3 +0x3") || got[123] != "goroutine 123 [select (no cases)]:\nmain.idle()" {
		t.Errorf("%v", got)
	}
}

// TestStacks finds goroutines among so many that one dump of the first size
// does not hold them.
func TestStacks(t *testing.T) {
	release := make(chan struct{})
	var wg sync.WaitGroup
	defer func() { close(release); wg.Wait() }()
	ids := make(chan uint64)
	const many = 5000
	var first, last uint64
	for i := range many {
		wg.Go(func() {
			ids <- goroutineID()
			<-release
		})
		if last = <-ids; i == 0 {
			first = last
		}
	}
	if first == 0 || last == 0 || first == last {
		t.Fatalf("goroutines %d and %d", first, last)
	}
	got := stacks([]uint64{first, last, last, 0, 1 << 60})
	if len(got) != 2 || !strings.Contains(got[first], "TestStacks.func") || !strings.Contains(got[last], "TestStacks.func") {
		t.Errorf("%v", got)
	}
	if got := stacks([]uint64{0}); got != nil {
		t.Errorf("%v for nobody", got)
	}
}

func BenchmarkGoroutineID(b *testing.B) {
	for b.Loop() {
		_ = goroutineID()
	}
}
