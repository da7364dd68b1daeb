// Package subset chooses which instances of a large service a client keeps to,
// so that a fleet of thousands of clients and hundreds of instances does not
// connect everybody with everybody. It is a pure function of the client's ID and
// the instances' names: no state, no clock, no transport, nothing random.
//
// The choice is rendezvous hashing, as in gRFC A68 ("Random subsetting with
// rendezvous hashing"): the client draws a weight for each instance and keeps to
// the smallest. One thing is added. Clients whose IDs differ in the number that
// they end with, such as web-0 to web-1999 or hosts with neighbouring addresses,
// go in groups of sixteen that draw the same weights, and stand at even distances
// on the circle of them: within a group they share the instances out instead of
// leaving it to chance. Any other client draws weights of its own.
//
// Guarantees:
//   - The same client and the same instances give the same choice, in every
//     process, whatever the order of the list.
//   - An instance that goes or comes changes at most one entry of a client's
//     choice, and none where it was not, or is not, part of it.
//   - Every instance is as likely to be chosen as any other.
//
// How even that is: with independent choices the connections of an instance are
// a matter of chance. With n clients that choose k of m instances the standard
// deviation is sqrt((m-k)/(n*k)) of the mean, 6.7 % for 2000 clients that choose
// 20 of 200, whatever the rule may be, as long as clients do not know of each
// other; numbers at the end of IDs let them do so, and make it about half.
package subset

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// group is how many clients with consecutive numbers draw the same weights.
const group = 16

// maxDigits bounds the number at the end of an ID: what is longer is no number
// that anybody counts with.
const maxDigits = 9

// Pick returns the indices of the instances that a client keeps to, the one of
// the smallest weight first: all of them, so ordered, if there are no more than
// size; none if size is not above 0. Instances are known by their names, which
// should be those that outlive a restart, such as addresses; of two that are the
// same, the first comes first.
//
// The prefix of any length is itself the choice of that size, so that who wants
// some instances left out can pick more and skip them.
func Pick(client string, instances []string, size int) []int {
	if size <= 0 || len(instances) == 0 {
		return nil
	}
	type drawn struct {
		weight uint64
		index  int
	}
	seed, offset := place(client)
	all := make([]drawn, len(instances))
	for i, name := range instances {
		// Unsigned arithmetic wraps: this is the distance on the circle from
		// the client to the instance.
		all[i] = drawn{mix(xxhash.Sum64String(name)+seed) - offset, i}
	}
	slices.SortFunc(all, func(a, b drawn) int {
		return cmp.Or(cmp.Compare(a.weight, b.weight), cmp.Compare(instances[a.index], instances[b.index]), cmp.Compare(a.index, b.index))
	})
	picked := make([]int, min(size, len(all)))
	for i := range picked {
		picked[i] = all[i].index
	}
	return picked
}

// place says which weights a client draws, and where on the circle of them it
// stands.
func place(client string) (seed, offset uint64) {
	name := strings.TrimRight(client, "0123456789")
	digits := client[len(name):]
	if digits == "" || len(digits) > maxDigits {
		return mix(xxhash.Sum64String(client)), 0
	}
	number := uint64(0)
	for _, d := range []byte(digits) {
		number = number*10 + uint64(d-'0')
	}
	return mix(mix(xxhash.Sum64String(name)) + number/group), number % group << 60
}

// mix is the finalizer of SplitMix64.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
