package health

import (
	"bytes"
	"runtime"
	"slices"
	"strconv"
)

// Sizes of a dump of all stacks: it is made anew, four times as large, while a
// goroutine is missing and the last dump was cut off. A thousand goroutines
// take about 1 MiB.
const (
	dumpSize    = 1 << 20
	dumpSizeMax = 16 << 20
)

// goroutineID is the number of the calling goroutine. The runtime tells it only
// in the head of a stack: "goroutine 12 [running]:". 0 means that it does not.
func goroutineID() uint64 {
	var head [40]byte
	id, _ := headID(head[:runtime.Stack(head[:], false)])
	return id
}

// headID parses the number in the head of a stack.
func headID(stack []byte) (id uint64, ok bool) {
	rest, ok := bytes.CutPrefix(stack, []byte("goroutine "))
	if !ok {
		return 0, false
	}
	number, _, _ := bytes.Cut(rest, []byte(" "))
	id, err := strconv.ParseUint(string(number), 10, 64)
	return id, err == nil
}

// stacks are the stacks of some goroutines by their number; those that have
// ended are missing. 0 is nobody's number.
func stacks(ids []uint64) map[uint64]string {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	ids = slices.DeleteFunc(ids, func(id uint64) bool { return id == 0 })
	if len(ids) == 0 {
		return nil
	}
	for size := dumpSize; ; size *= 4 {
		dump := make([]byte, size)
		dump = dump[:runtime.Stack(dump, true)]
		if found := pick(dump, ids); len(found) == len(ids) || len(dump) < size || size >= dumpSizeMax {
			return found
		}
	}
}

// pick finds goroutines in a dump.
func pick(dump []byte, ids []uint64) map[uint64]string {
	found := map[uint64]string{}
	for one := range bytes.SplitSeq(dump, []byte("\n\n")) {
		if id, ok := headID(one); ok && slices.Contains(ids, id) {
			found[id] = string(bytes.TrimSpace(one))
		}
	}
	return found
}
