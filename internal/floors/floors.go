// Package floors keeps the building standing: it reads the table of floors in docs/design.md and finds what breaks it in the source.
//
// The table is the fenced block that begins with ```floors. Everything after " # " is the reason; a line that exempts or walls off
// something must have one. A pattern is a package path relative to the module, where * stands for one path element and a final /... for
// the package itself and everything below.
//
//	floor N PATTERN...              these packages are on floor N; the most specific pattern wins; every package is on a floor
//	allow PATTERN -> PATTERN...     an arrow that goes up or sideways all the same
//	std PATTERN...                  these import the standard library only, and packages of this module
//	wall PATH = PATTERN...          the import PATH, and what is below it, is for these packages only; PATH may be one of this module,
//	                                and the longest PATH decides
//	pure PATTERN... : PATH...       these import none of PATH, nor what is below it
//	forbid KIND [in PATTERN...]     nobody does KIND, but for the packages listed; kinds are below
//
// Kinds: init (func init), exit (os.Exit, log.Fatal and the like), panic, global-goroutine (a go statement that runs when a package is
// imported), global-state (a package variable that is assigned after it is declared, or that is a lock, a channel or an atomic; a sync.Pool holds nothing that
// anybody could see, and is no state), global-setter
// (a call that changes a default of the whole process), grpc-registry (a call that adds to grpc's own registries), no-package-doc.
//
// An import goes down when the imported package is on a lower floor or in a directory below the importing one. Test files, testdata and
// nested modules are left out; generated files only from what is forbidden. Nothing is built or type-checked beyond its own package, so the
// check is quick and works on a tree that does not compile; it finds what is written down, not what is done through interfaces.
package floors

import (
	"bufio"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Rules is a table of floors.
type Rules struct {
	floors  []floor
	allowed []arrow
	std     []string
	walls   []wall
	pure    []pure
	forbid  map[string][]string // kind to the packages that are exempt
}

type floor struct {
	number   int
	patterns []string
}

type arrow struct {
	from string
	to   []string
}

type wall struct {
	path   string
	inside []string
	reason string
}

type pure struct {
	packages, imports []string
	reason            string
}

const (
	fenceBegin = "```floors"
	fenceEnd   = "```"
)

// Parse reads the rules from the text of a document. Errors name the line.
func Parse(document string) (*Rules, error) {
	r := &Rules{forbid: make(map[string][]string)}
	inside, seen := false, false
	number := 0
	scan := bufio.NewScanner(strings.NewReader(document))
	for scan.Scan() {
		number++
		line := strings.TrimSpace(scan.Text())
		switch line {
		case fenceBegin:
			inside, seen = true, true
			continue
		case fenceEnd:
			inside = false
		}
		if !inside || line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := r.add(line); err != nil {
			return nil, fmt.Errorf("read the floors, line %d: %w", number, err)
		}
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("read the floors: %w", err)
	}
	if !seen {
		return nil, fmt.Errorf("read the floors: no block begins with %s", fenceBegin)
	}
	return r, nil
}

func (r *Rules) add(line string) error {
	body, reason, _ := strings.Cut(line, " # ")
	reason = strings.TrimSpace(reason)
	fields := strings.Fields(body)
	verb, args := fields[0], fields[1:]
	if len(args) == 0 {
		return fmt.Errorf("%q has nothing after it", verb)
	}
	left, right, found := split(args, map[string]string{"allow": "->", "wall": "=", "pure": ":", "forbid": "in"}[verb])
	if reason == "" && (verb == "allow" || verb == "wall" || verb == "pure" || verb == "forbid" && found) {
		return fmt.Errorf("%q needs a reason: # why", line)
	}
	switch verb {
	case "floor":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return fmt.Errorf("read the number of the floor: %w", err)
		}
		r.floors = append(r.floors, floor{n, args[1:]})
	case "allow":
		if !found || len(left) != 1 {
			return fmt.Errorf("%q: want allow PATTERN -> PATTERN", line)
		}
		r.allowed = append(r.allowed, arrow{left[0], right})
	case "std":
		r.std = append(r.std, args...)
	case "wall":
		if !found || len(left) != 1 {
			return fmt.Errorf("%q: want wall PATH = PATTERN", line)
		}
		r.walls = append(r.walls, wall{left[0], right, reason})
	case "pure":
		if !found {
			return fmt.Errorf("%q: want pure PATTERN : PATH", line)
		}
		r.pure = append(r.pure, pure{left, right, reason})
	case "forbid":
		if len(left) != 1 || !slices.Contains(kinds, left[0]) {
			return fmt.Errorf("%q: want forbid KIND, one of %s", line, strings.Join(kinds, ", "))
		}
		r.forbid[left[0]] = right
	default:
		return fmt.Errorf("unknown rule %q", verb)
	}
	return nil
}

// split cuts the words at the separator.
func split(words []string, separator string) (left, right []string, found bool) {
	if at := slices.Index(words, separator); at >= 0 {
		return words[:at], words[at+1:], true
	}
	return words, nil, false
}

// matches reports whether a pattern covers a package.
func matches(pattern, pkg string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return below(base, pkg)
	}
	ok, err := path.Match(pattern, pkg)
	return err == nil && ok
}

// below reports whether pkg is base or in a directory below it.
func below(base, pkg string) bool {
	rest, ok := strings.CutPrefix(pkg, base)
	return ok && (rest == "" || rest[0] == '/')
}

func anyMatches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

// floorOf returns the floor of a package: that of the pattern with the longest literal text.
func (r *Rules) floorOf(pkg string) (number int, ok bool) {
	best := -1
	for _, f := range r.floors {
		for _, p := range f.patterns {
			literal := len(strings.TrimRight(p, "*./"))
			if matches(p, pkg) && literal > best {
				number, best = f.number, literal
			}
		}
	}
	return number, best >= 0
}

// wallOf returns the wall around an import: the one with the longest path.
func (r *Rules) wallOf(imported string) (found wall, ok bool) {
	for _, w := range r.walls {
		if below(w.path, imported) && len(w.path) >= len(found.path) {
			found, ok = w, true
		}
	}
	return found, ok
}

// arrowError says why one package may not import another one of this module, or returns "".
func (r *Rules) arrowError(from, to string) string {
	for _, a := range r.allowed {
		if matches(a.from, from) && anyMatches(a.to, to) {
			return ""
		}
	}
	f, okFrom := r.floorOf(from)
	t, okTo := r.floorOf(to)
	switch {
	case !okFrom || !okTo:
		return "" // reported once, for the package
	case t < f, strings.HasPrefix(to, from+"/"):
		return ""
	case t == f:
		return fmt.Sprintf("imports %s, on the same floor %d", to, f)
	default:
		return fmt.Sprintf("imports %s, up from floor %d to %d", to, f, t)
	}
}
