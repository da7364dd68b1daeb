package framework

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
)

// DefaultHeapFloor is what [Run] gives to [WithHeapFloor], in bytes.
const DefaultHeapFloor = 32 << 20

// heapFloorShare is the part of the memory there is that a floor takes at most.
const heapFloorShare = 8

// WithHeapFloor lets the garbage collector treat the heap as larger by this many
// bytes while the app runs. A service with a heap of some megabytes otherwise
// collects garbage dozens of times a second, for a fifth of its processor time
// under load; the cost is as much memory again in garbage that waits. The bytes
// themselves are reserved and never touched, and nothing of the process is set:
// GOGC and GOMEMLIMIT hold as they are.
//
// Where there is little memory the floor is lower: an eighth of GOMEMLIMIT and of
// the limit of the process' cgroup at most. [Run] asks for [DefaultHeapFloor], an
// app made by [New] for none; 0 or less is none.
func WithHeapFloor(bytes int64) Option {
	return optionFunc(func(o *options) { o.heapFloor = bytes })
}

// raiseHeapFloor reserves the memory, and returns what gives it back.
func raiseHeapFloor(want int64) (release func()) {
	floor := min(want, memoryLimit("/sys/fs/cgroup")/heapFloorShare)
	if floor <= 0 {
		return func() {}
	}
	ballast := make([]byte, floor)
	return func() { runtime.KeepAlive(ballast) }
}

// memoryLimit is what the process may use: the lower one of GOMEMLIMIT and of its
// cgroup's limit (version 2, as a container sees it). Without any it is huge.
func memoryLimit(cgroup string) int64 {
	sample := []metrics.Sample{{Name: "/gc/gomemlimit:bytes"}}
	metrics.Read(sample)
	limit := int64(1) << 62
	if v := sample[0].Value; v.Kind() == metrics.KindUint64 {
		limit = int64(min(v.Uint64(), uint64(limit)))
	}
	if text, err := os.ReadFile(cgroup + "/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // not "max"
			limit = min(limit, n)
		}
	}
	return limit
}
