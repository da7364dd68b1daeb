package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A file may unfold to no more than this, aliases counted in, so that a hostile
// one cannot do so without end.
const (
	maxDepth = 32
	maxNodes = 100_000
)

// yamlLine begins the texts of the YAML library that name a line.
var yamlLine = regexp.MustCompile(`^line (\d+): `)

// yamlUnexpected begins the texts of errors for which it counts lines from zero, or
// names the line on which the mapping around the place begins.
const yamlUnexpected = "did not find expected "

// parseDocument reads the items of a YAML document, whose source has no line yet.
func parseDocument(source Source, data []byte) (map[string]*item, error) {
	f := &documentReader{base: source, items: map[string]*item{}}
	doc, second, err := decodeYAML(data)
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			source.Line, _ = strconv.Atoi(m[1]) // digits; as many as fit
			text = text[len(m[0]):]
		}
		if source.Line == 0 || strings.HasPrefix(text, yamlUnexpected) {
			source.Line = cmp.Or(lineOf(data, err), source.Line)
		}
		return nil, fmt.Errorf("%v: not YAML: %s", source, text)
	}
	if second != nil {
		return nil, fmt.Errorf("%v: a second document begins here; one file is one document", f.source(second))
	}
	if len(doc.Content) == 0 {
		return f.items, nil // an empty file sets nothing
	}
	root := doc.Content[0]
	if isNull(root) {
		return f.items, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%v: want a mapping of keys to values", f.source(root))
	}
	f.mapping(root, nil)
	return f.items, errors.Join(f.errs...)
}

// decodeYAML reads the one document that there should be, and the one after it,
// nil for none.
func decodeYAML(data []byte) (doc yaml.Node, second *yaml.Node, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return doc, nil, err
	}
	second = &yaml.Node{}
	if err := dec.Decode(second); err != nil {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return doc, nil, err
	}
	return doc, second, nil
}

// lineOf finds the line of an error for which the YAML library names none, or one
// that is off: the first one with which the text up to there has the error. It is 0
// where that is not found.
func lineOf(data []byte, problem error) int {
	var ends []int // of the lines
	for line := range bytes.Lines(data) {
		end := len(line)
		if n := len(ends); n > 0 {
			end += ends[n-1]
		}
		ends = append(ends, end)
	}
	// The library reads from the front: what comes later takes no error away.
	i := sort.Search(len(ends), func(i int) bool {
		_, _, err := decodeYAML(data[:ends[i]])
		return err != nil && err.Error() == problem.Error()
	})
	if i == len(ends) {
		return 0
	}
	return i + 1
}

// isNull reports a node with nothing in it. What the library calls null is a
// plain scalar; a quoted one is a string.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

type documentReader struct {
	base  Source
	items map[string]*item
	errs  []error
	nodes int  // visited so far
	full  bool // maxNodes was reached: nothing more is read
}

func (f *documentReader) fail(n *yaml.Node, path []string, problem string) {
	f.errs = append(f.errs, &Error{Source: f.source(n), Key: strings.Join(path, "."), Problem: problem})
}

func (f *documentReader) source(n *yaml.Node) Source {
	source := f.base
	source.Line = n.Line
	return source
}

// put keeps an item. The same key can be reached twice without standing twice in
// one mapping: as "a: {b: 1}" and as "a.b: 1".
func (f *documentReader) put(k *yaml.Node, path []string, it *item) {
	key := strings.Join(path, ".")
	if old, twice := f.items[key]; twice {
		f.fail(k, path, fmt.Sprintf("is given twice, first on line %d", old.source.Line))
		return
	}
	it.depth = len(path)
	f.items[key] = it
}

func (f *documentReader) mapping(n *yaml.Node, path []string) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content) && !f.full; i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		below := append(slices.Clip(path), k.Value)
		switch line, twice := seen[k.Value]; {
		case k.Tag == "!!merge":
			f.fail(k, path, "uses the merge key <<, which is not supported; write the keys out")
		case k.Kind != yaml.ScalarNode || k.Value == "":
			f.fail(k, path, "has a key that is not a plain word")
		case twice:
			f.fail(k, below, fmt.Sprintf("is given twice, first on line %d", line))
		default:
			seen[k.Value] = k.Line
			f.value(k, v, below)
		}
	}
}

// value reads what stands at a key. Where it comes through an alias its errors
// name the key's line, not the anchor's.
func (f *documentReader) value(k, v *yaml.Node, path []string) {
	if f.nodes++; f.nodes > maxNodes {
		f.fail(k, path, fmt.Sprintf("is too much: the file unfolds to more than %d values", maxNodes))
		f.full = true
		return
	}
	if v.Kind == yaml.AliasNode {
		v = v.Alias
	}
	if len(path) > maxDepth {
		f.fail(k, path[:maxDepth], "is nested too deep")
		f.full = true // whoever does this once can do it without end
		return
	}
	switch {
	case isNull(v), v.Kind == yaml.MappingNode && len(v.Content) == 0:
		f.put(k, path, &item{source: f.source(k), isNull: true})
	case v.Kind == yaml.MappingNode:
		f.mapping(v, path)
	case v.Kind == yaml.SequenceNode:
		f.list(k, v, path)
	case v.Kind == yaml.ScalarNode:
		f.put(k, path, &item{source: f.source(k), value: v.Value})
	}
}

func (f *documentReader) list(k, v *yaml.Node, path []string) {
	it := &item{source: f.source(k), isList: true, list: make([]string, 0, len(v.Content))}
	for _, e := range v.Content {
		f.nodes++
		if e.Kind == yaml.AliasNode {
			e = e.Alias
		}
		if e.Kind != yaml.ScalarNode || isNull(e) {
			f.fail(k, path, "is a list of something else than plain values")
			return
		}
		it.list = append(it.list, e.Value)
	}
	it.value = strings.Join(it.list, ",")
	f.put(k, path, it)
}
