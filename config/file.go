package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// serviceLink matches the variables that Kubernetes sets for every Service in a
// namespace; a Service called plinth-... must not look like a setting.
var serviceLink = regexp.MustCompile(`_(SERVICE_(HOST|PORT(_.*)?)|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)$`)

// maxDepth bounds the nesting of a file, aliases counted in, so that a hostile
// one cannot unfold without end.
const (
	maxDepth = 32
	maxItems = 100_000
)

// parseFile reads a YAML document into c.file.
func (c *Config) parseFile(name string, data []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		// The library's text is "yaml: line 3: ...".
		return fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if doc.Kind == 0 || len(doc.Content) == 0 {
		return nil // an empty file sets nothing
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: want a mapping of keys to values", name, root.Line)
	}
	f := &fileReader{name: name, items: c.file}
	f.mapping(root, "", 0)
	return errors.Join(f.errs...)
}

type fileReader struct {
	name  string
	items map[string]*item
	errs  []error
}

func (f *fileReader) fail(n *yaml.Node, key, problem string) {
	f.errs = append(f.errs, &Error{Source: f.source(n), Key: key, Problem: problem})
}

func (f *fileReader) source(n *yaml.Node) Source {
	return Source{Kind: KindFile, Name: f.name, Line: n.Line}
}

func (f *fileReader) mapping(n *yaml.Node, prefix string, depth int) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Tag == "!!merge" {
			f.fail(k, strings.TrimSuffix(prefix, "."), "uses the merge key <<, which is not supported; write the keys out")
			continue
		}
		if k.Kind != yaml.ScalarNode {
			f.fail(k, strings.TrimSuffix(prefix, "."), "has a key that is not a plain word")
			continue
		}
		key := prefix + k.Value
		if line, twice := seen[k.Value]; twice {
			f.fail(k, key, fmt.Sprintf("is given twice, first on line %d", line))
			continue
		}
		seen[k.Value] = k.Line
		f.value(k, v, key, depth+1)
	}
}

func (f *fileReader) value(k, v *yaml.Node, key string, depth int) {
	if depth > maxDepth || len(f.items) > maxItems {
		if len(f.errs) == 0 || depth > maxDepth {
			f.fail(k, key, "is nested too deep")
		}
		return
	}
	switch v.Kind {
	case yaml.AliasNode:
		f.value(k, v.Alias, key, depth+1)
	case yaml.MappingNode:
		f.mapping(v, key+".", depth)
	case yaml.SequenceNode:
		it := &item{source: f.source(k), isList: true, list: []string{}}
		for _, e := range v.Content {
			if e.Kind == yaml.AliasNode {
				e = e.Alias
			}
			if e.Kind != yaml.ScalarNode {
				f.fail(e, key, "is a list of something else than plain values")
				return
			}
			it.list = append(it.list, e.Value)
		}
		it.value = strings.Join(it.list, ",")
		f.items[key] = it
	case yaml.ScalarNode:
		if v.Tag == "!!null" { // "key:" with nothing behind it sets nothing
			f.items[key] = &item{source: f.source(k), isList: true} // isNull
			return
		}
		f.items[key] = &item{source: f.source(v), value: v.Value}
	}
}
