package main

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"syscall"
	"time"
)

// usage is what a process has used since it began.
type usage struct {
	At      time.Duration `json:"at"`  // on the process' own monotonic clock
	CPU     time.Duration `json:"cpu"` // user and system
	GC      time.Duration `json:"gc"`  // the runtime's estimate, brought up to date at the end of each collection
	Mallocs uint64        `json:"mallocs"`
	Bytes   uint64        `json:"bytes"`
}

// usageNow reads what this process has used.
func usageNow(born time.Time) (usage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}, fmt.Errorf("get resource usage: %w", err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	gc := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(gc)
	u := usage{
		At: time.Since(born), CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()),
		Mallocs: m.Mallocs, Bytes: m.TotalAlloc,
	}
	if gc[0].Value.Kind() == metrics.KindFloat64 {
		u.GC = time.Duration(gc[0].Value.Float64() * float64(time.Second))
	}
	return u, nil
}

// since is what was used after an earlier moment.
func (u usage) since(before usage) usage {
	return usage{
		At: u.At - before.At, CPU: u.CPU - before.CPU, GC: u.GC - before.GC,
		Mallocs: u.Mallocs - before.Mallocs, Bytes: u.Bytes - before.Bytes,
	}
}
