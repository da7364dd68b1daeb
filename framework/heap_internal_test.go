package framework

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	for text, want := range map[string]int64{
		"max\n":       1 << 62,
		"134217728\n": 128 << 20,
		"nonsense":    1 << 62,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := memoryLimit(dir); got != want {
			t.Errorf("with memory.max %q the limit is %d, want %d", text, got, want)
		}
	}
	if got := memoryLimit(filepath.Join(t.TempDir(), "none")); got != 1<<62 {
		t.Errorf("without a cgroup the limit is %d", got)
	}
}

// TestHeapFloor: the collector lets the heap grow by the floor and as much again
// before it runs, and does not once the app has ended.
func TestHeapFloor(t *testing.T) {
	goal := func() uint64 {
		runtime.GC()
		sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	const floor = 16 << 20
	before := goal()
	release := raiseHeapFloor(floor)
	if with := goal(); with < before+2*floor*9/10 {
		t.Errorf("the goal is %d bytes with a floor of %d, and was %d without", with, floor, before)
	}
	release()
	if after := goal(); after > before+floor {
		t.Errorf("the goal is %d bytes after the end, and was %d before the floor", after, before)
	}
	raiseHeapFloor(-1)()
	raiseHeapFloor(math.MinInt64)()
}
