// Package typo finds the name that somebody meant who has misspelt one. All functions
// may be called concurrently.
package typo

import "iter"

// maxTypos is how far a name may be from a known one to be taken for it: the
// wrong letters in it, two that changed places counted as one.
const maxTypos = 3

// Nearest is the known name that is nearest to name, the first in the alphabet of
// several, and "" where none is near: at most three letters are wrong, and a third of
// the name.
func Nearest(name string, known iter.Seq[string]) string {
	best, distance := "", min(maxTypos, len(name)/3)
	for k := range known {
		if d := editDistance(name, k, distance); d < distance || d == distance && (best == "" || k < best) {
			best, distance = k, d
		}
	}
	return best
}

// editDistance is the number of letters to insert, delete, replace or swap with
// their neighbour to make b of a (optimal string alignment); above limit it
// need not be exact.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	// Rows of the table for the last two letters of a, and this one.
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
