package retry

import (
	"math/bits"
	"time"
)

// A histogram counts latencies in buckets that are an eighth of a power of two
// wide, so that what is read from it is off by less than an eighth, from a
// microsecond to two minutes.
const (
	fine     = 3                      // bits of a latency that are kept
	exponent = 27 - fine              // powers of two above the finest
	cells    = (exponent + 1) << fine // 2^27 us are 134 s
)

type histogram struct {
	count uint32
	cells [cells]uint32
}

func (h *histogram) add(latency time.Duration) {
	h.count++
	h.cells[cell(latency)]++
}

// cell is the number of the bucket of a latency. Up to 8 us a bucket is one
// microsecond; from there on eight of them make a doubling.
func cell(latency time.Duration) int {
	us := uint64(max(latency, 0) / time.Microsecond)
	shift := max(bits.Len64(us)-fine-1, 0)
	return min(shift<<fine+int(us>>shift), cells-1)
}

// floor is the shortest latency of a bucket.
func floor(cell int) time.Duration {
	shift := max(cell>>fine-1, 0)
	return time.Duration(cell-shift<<fine) << shift * time.Microsecond
}

// quantile is the latency that the part q of the counts of both stay below,
// taken to be spread evenly within a bucket.
func quantile(a, b *histogram, q float64) time.Duration {
	left := q * float64(a.count+b.count)
	for i := range cells {
		here := float64(a.cells[i] + b.cells[i])
		if here > 0 && left <= here {
			low := floor(i)
			return low + time.Duration(left/here*float64(floor(i+1)-low))
		}
		left -= here
	}
	return floor(cells)
}
