package main

import (
	"math/bits"
	"time"
)

const (
	// subBuckets are within each power of two: a value is known to 1.6 %.
	subBucketBits = 6
	subBuckets    = 1 << subBucketBits
	// largest is the power of two of the longest time that is told apart, about
	// a minute.
	largest = 36
)

// histogram counts times in buckets whose width grows with them, as HDR
// histograms do. The zero value is ready; it belongs to one goroutine.
type histogram struct {
	counts [(largest - subBucketBits + 2) * subBuckets]uint64
	total  uint64
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.total++
}

// merge takes in what another one has counted.
func (h *histogram) merge(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// quantile is the middle of the bucket that the share q of all times does not
// exceed; 0 where nothing was counted.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; n > 0 && (seen > rank || seen == h.total) {
			return middleOf(i)
		}
	}
	return 0
}

// bucketOf is exact below 2*subBuckets nanoseconds.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	v = min(v, 1<<(largest+1)-1)
	shift := max(bits.Len64(v)-subBucketBits-1, 0)
	return shift*subBuckets + int(v>>shift)
}

func middleOf(bucket int) time.Duration {
	if bucket < 2*subBuckets {
		return time.Duration(bucket)
	}
	shift := bucket/subBuckets - 1
	low := time.Duration(bucket-shift*subBuckets) << shift
	return low + time.Duration(1)<<shift/2
}
