// Package route decides which instances of a service a call may use: rules name
// calls, by headers, baggage, chance, or several of these together, and the
// instances that those calls go to, by version or metadata. It is the pure part
// of canary releases: no transport, no goroutine, no clock.
//
// Guarantees:
//   - The first rule that a call matches counts, in the order of the rules.
//   - An instance that a rule names is reserved: calls that match no rule are not
//     for it, whatever the rule's percentage is, 0 included. Otherwise 5 % would be
//     5 % and the canary's share of the rest.
//   - A [Table] never changes and may be used concurrently. [Table.Match] allocates
//     nothing by itself.
//   - Chance by a key is the same in every process: it depends on the rule's name
//     and the key only.
//
// What happens where no instance is left for a call is for the user of the package
// to do; [Rule] only says what is wanted.
package route

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Ordinary stands for the calls that match no rule, and for the instances that no
// rule names. No rule may have it as its name.
const Ordinary = "ordinary"

// Present is the value of a condition that holds for every value but the empty
// one.
const Present = "*"

// Fallback says what becomes of a rule's calls while none of its instances can
// be called.
type Fallback string

const (
	// FallbackAny has other instances take them: the ordinary ones, and without
	// any of these whoever there is. It is the default.
	FallbackAny Fallback = "any"
	// FallbackFail has them fail at once.
	FallbackFail Fallback = "fail"
)

// Rule sends some calls to some instances. A call must meet every condition that
// is given; a rule without any is for all calls.
type Rule struct {
	// Name is what the rule is called in errors, metrics and on pages. It must be
	// unique and must not be empty or [Ordinary].
	Name string
	// Headers are headers of the call and the values that they must have, or
	// [Present]. Keys are matched without regard to case, values with it. A header
	// that is empty is as absent.
	Headers map[string]string
	// Baggage is the same for members of the W3C baggage, which travels on to
	// all services behind this one. Keys are matched with regard to case.
	Baggage map[string]string
	// Percent is the part of the calls that meet the other conditions, from 0 to
	// 100; nil means all. Each rule draws anew: behind one of 50, one of 10 gets
	// 5 of 100 calls.
	Percent *float64
	// By names the header whose value decides instead of chance whether a call
	// belongs to the Percent: calls with the same value decide alike, in all
	// processes and for as long as the percentage does not change; those that
	// belong to it stay when it grows. "" means chance, which also decides for
	// calls without the header.
	By string
	// Version is the version that the instances must have, "" for any.
	Version string
	// Metadata is what the instances' metadata must hold, nil for anything. One
	// of Version and Metadata must be given.
	Metadata map[string]string
	// Fallback is what happens while none of the instances can be called; ""
	// means [FallbackAny].
	Fallback Fallback
}

// Fails reports whether the rule's calls fail where others would fall back.
func (r *Rule) Fails() bool { return r.Fallback == FallbackFail }

// Claims reports whether the rule names an instance.
func (r *Rule) Claims(version string, metadata map[string]string) bool {
	if r.Version != "" && r.Version != version {
		return false
	}
	for key, want := range r.Metadata {
		if value, ok := metadata[key]; !ok || value != want {
			return false
		}
	}
	return true
}

func (r *Rule) equal(o *Rule) bool {
	return r.Name == o.Name && maps.Equal(r.Headers, o.Headers) && maps.Equal(r.Baggage, o.Baggage) &&
		(r.Percent == nil) == (o.Percent == nil) && (r.Percent == nil || *r.Percent == *o.Percent) &&
		r.By == o.By && r.Version == o.Version && maps.Equal(r.Metadata, o.Metadata) && r.Fails() == o.Fails()
}

// condition is one header or member, and its value.
type condition struct{ key, value string }

func (c condition) holds(value string) bool {
	return value != "" && (c.value == Present || c.value == value)
}

// compiled is a rule as calls are compared with it.
type compiled struct {
	headers, baggage []condition
	partly           bool   // not all calls that meet the conditions
	limit            uint64 // those that draw less
	seed             uint64 // of keys
}

// Table is a list of rules. Use [New]; a nil Table has no rules.
type Table struct {
	rules    []Rule
	compiled []compiled
}

// New makes a table of rules, the first of which counts most. Its error names all
// rules and fields that are wrong. The rules are copied but for their maps, which
// must not be changed afterwards.
func New(rules ...Rule) (*Table, error) {
	if err := validate(rules); err != nil {
		return nil, err
	}
	t := &Table{rules: slices.Clone(rules), compiled: make([]compiled, len(rules))}
	for i := range t.rules {
		r := &t.rules[i]
		c := compiled{headers: conditions(r.Headers), baggage: conditions(r.Baggage), seed: hash(offset, r.Name)}
		if r.Percent != nil {
			r.Percent = new(*r.Percent)
			c.partly, c.limit = true, uint64(*r.Percent/100*draws)
		}
		t.compiled[i] = c
	}
	return t, nil
}

func conditions(wanted map[string]string) []condition {
	var all []condition
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		all = append(all, condition{key, wanted[key]})
	}
	return all
}

// Len is the number of rules.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return len(t.rules)
}

// At is the rule of that index. It must not be changed.
func (t *Table) At(i int) *Rule { return &t.rules[i] }

// Equal reports whether two tables have the same rules in the same order.
func (t *Table) Equal(o *Table) bool {
	if t == o || t.Len() == 0 || o.Len() == 0 {
		return t.Len() == o.Len()
	}
	return slices.EqualFunc(t.rules, o.rules, func(a, b Rule) bool { return a.equal(&b) })
}

// Headers are the headers of a call.
type Headers interface {
	// Header returns the value of a header, "" for one that is absent. Keys are
	// matched without regard to case.
	Header(key string) string
}

// Baggage is the baggage of a call.
type Baggage interface {
	// Value returns the value of a member, "" for one that is absent.
	Value(key string) string
}

// Call is what rules look at.
type Call struct {
	// Headers and Baggage must not be nil.
	Headers Headers
	Baggage Baggage
	// Rand is the source of random bits; nil means the runtime's own, which is the
	// right one everywhere but in a test with a fixed seed.
	Rand func() uint64
}

// None is the index that stands for no rule.
const None = -1

// Match returns the index of the first rule that a call matches, [None] if there
// is none. Where chance decides, another time the answer may be another: ask once
// for each call.
func (t *Table) Match(c Call) int {
	if t == nil {
		return None
	}
	for i := range t.compiled {
		if t.matches(i, &c) {
			return i
		}
	}
	return None
}

func (t *Table) matches(i int, c *Call) bool {
	r := &t.compiled[i]
	for _, want := range r.headers {
		if !want.holds(c.Headers.Header(want.key)) {
			return false
		}
	}
	for _, want := range r.baggage {
		if !want.holds(c.Baggage.Value(want.key)) {
			return false
		}
	}
	return !r.partly || t.draw(i, c) < r.limit
}

// draws is how many different results a draw has: what a float64 holds exactly.
const draws = 1 << 53

func (t *Table) draw(i int, c *Call) uint64 {
	if by := t.rules[i].By; by != "" {
		if key := c.Headers.Header(by); key != "" {
			return mix(hash(t.compiled[i].seed, key)) >> 11
		}
	}
	if c.Rand != nil {
		return c.Rand() >> 11
	}
	return rand.Uint64() >> 11
}

const offset = 0xcbf29ce484222325

// hash is FNV-1a. It and mix must not change: all processes must agree on them.
func hash(h uint64, key string) uint64 {
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 0x100000001b3
	}
	return h
}

// mix is the finalizer of SplitMix64: FNV leaves the upper bits of short keys
// alike.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// Division is the instances of a list by the rules that name them, as indices of
// the list.
type Division struct {
	// Ordinary are those that no rule names.
	Ordinary []int
	// Rules are for each rule those that it names. One that several rules name is
	// in all of theirs.
	Rules [][]int
}

// Divide divides a list of n instances. instance tells the version and the
// metadata of the one of an index.
func (t *Table) Divide(n int, instance func(i int) (version string, metadata map[string]string)) Division {
	d := Division{Rules: make([][]int, t.Len())}
	for i := range n {
		version, metadata := instance(i)
		reserved := false
		for k := range t.Len() {
			if t.rules[k].Claims(version, metadata) {
				d.Rules[k] = append(d.Rules[k], i)
				reserved = true
			}
		}
		if !reserved {
			d.Ordinary = append(d.Ordinary, i)
		}
	}
	return d
}
