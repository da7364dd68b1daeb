package etcd

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxNear is how many instances a [NotFoundError] proposes.
const maxNear = 5

// NotFoundError says that there is no instance with an ID, nor one whose ID
// begins so.
type NotFoundError struct {
	// ID is what was looked for.
	ID string
	// Near are up to five instances, as service/id, that may have been meant,
	// the likeliest first.
	Near []string
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("there is no instance %q", e.ID) }

// AmbiguousError says that several instances have an ID that begins so, or
// several services an instance of that ID.
type AmbiguousError struct {
	// Prefix is what was looked for.
	Prefix string
	// Matches are the instances, as service/id, in alphabetical order.
	Matches []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%q may be any of %d instances", e.Prefix, len(e.Matches))
}

// pick returns the one of all, each service/id, that is meant by an ID or its
// beginning, with or without the service.
func pick(all []string, idOrPrefix string) (string, error) {
	part := func(name string) string {
		if _, id, ok := strings.Cut(name, "/"); ok && !strings.Contains(idOrPrefix, "/") {
			return id
		}
		return name
	}
	var exact, begin []string
	for _, name := range all {
		switch p := part(name); {
		case p == idOrPrefix:
			exact = append(exact, name)
		case idOrPrefix != "" && strings.HasPrefix(p, idOrPrefix):
			begin = append(begin, name)
		}
	}
	if len(exact) > 0 {
		begin = exact
	}
	switch len(begin) {
	case 0:
		return "", &NotFoundError{ID: idOrPrefix, Near: near(all, idOrPrefix, part)}
	case 1:
		return begin[0], nil
	default:
		return "", &AmbiguousError{Prefix: idOrPrefix, Matches: begin}
	}
}

// near returns what may have been meant: names that have it somewhere inside,
// and names that differ, as a whole or in their beginning, by less than half
// of it.
func near(all []string, want string, part func(string) string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	for _, name := range all {
		p := part(name)
		d := min(distance(want, p), distance(want, p[:min(len(p), len(want))]))
		switch {
		case want == "":
			continue
		case strings.Contains(name, want):
			d = 0
		case 2*d >= len(want):
			continue
		}
		found = append(found, candidate{name, d})
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	var names []string
	for _, c := range found[:min(len(found), maxNear)] {
		names = append(names, c.name)
	}
	return names
}

// distance is how many bytes have to be put in, taken out or replaced to make
// one string the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
