package configcmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"plinth.internal/config"
)

// edit changes keys of a YAML document and leaves the rest as it is, comments and
// order too.
func edit(data []byte, settings [][2]string, unset []string) ([]byte, error) {
	if _, err := config.ParseDocument("document", data); err != nil {
		return nil, fmt.Errorf("the document as it is cannot be edited: %w", err)
	}
	var doc yaml.Node
	err := yaml.Unmarshal(data, &doc)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	comments := []byte(nil) // of a document that has nothing else
	if doc.Kind == 0 || isNull(doc.Content[0]) {
		if comments = data; len(comments) > 0 && !bytes.HasSuffix(comments, []byte("\n")) {
			comments = append(slices.Clone(comments), '\n')
		}
		if doc.Kind != 0 {
			comments = nil // it says null, which the mapping takes the place of
		}
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	root := doc.Content[0]
	touched := slices.Clone(unset)
	for _, key := range unset {
		found, err := remove(root, strings.Split(key, "."))
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("the document does not set %s", key)
		}
	}
	for _, s := range settings {
		if err := put(root, strings.Split(s[0], "."), scalar(s[1])); err != nil {
			return nil, fmt.Errorf("set %s: %w", s[0], err)
		}
		touched = append(touched, s[0])
	}
	var out bytes.Buffer
	if len(root.Content) > 0 {
		enc := yaml.NewEncoder(&out)
		enc.SetIndent(2)
		if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
			return nil, err
		}
	}
	next := slices.Concat(comments, out.Bytes())
	for _, c := range compare(data, next) {
		if !slices.ContainsFunc(touched, func(key string) bool { return c.Key == key || strings.HasPrefix(c.Key, key+".") }) {
			return nil, fmt.Errorf("%s would change as well", c.Key)
		}
	}
	return next, nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// scalar is the node of a value on the command line: a scalar, or a list or mapping
// in brackets.
func scalar(value string) *yaml.Node {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(value), &doc); err == nil && doc.Kind == yaml.DocumentNode {
		n := doc.Content[0]
		if n.Kind == yaml.ScalarNode && n.Anchor == "" || n.Style&yaml.FlowStyle != 0 {
			return n
		}
	}
	n := &yaml.Node{}
	n.SetString(value)
	if n.Style == 0 {
		n.Style = yaml.DoubleQuotedStyle // or "" and "a: b" would be something else
	}
	return n
}

// at finds the place of a key in a mapping: the key of the whole rest of the path,
// or of its beginning, since a.b may be written as one key.
func at(n *yaml.Node, parts []string) (index, used int) {
	for used := len(parts); used > 0; used-- {
		name := strings.Join(parts[:used], ".")
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return i, used
			}
		}
	}
	return -1, 0
}

// put sets a value below a mapping.
func put(n *yaml.Node, parts []string, value *yaml.Node) error {
	i, used := at(n, parts)
	if i < 0 {
		for _, part := range slices.Backward(parts[1:]) {
			value = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{name(part), value}}
		}
		if len(n.Content) == 0 {
			n.Style = 0 // {} grows into lines
		}
		n.Content = append(n.Content, name(parts[0]), value)
		return nil
	}
	old := n.Content[i+1]
	if used == len(parts) {
		value.HeadComment, value.LineComment, value.FootComment = old.HeadComment, old.LineComment, old.FootComment
		n.Content[i+1] = value
		return nil
	}
	switch {
	case old.Kind == yaml.AliasNode || old.Anchor != "":
		return fmt.Errorf("line %d stands in several places at once", n.Content[i].Line)
	case isNull(old):
		*old = yaml.Node{Kind: yaml.MappingNode, HeadComment: old.HeadComment, FootComment: old.FootComment}
	case old.Kind != yaml.MappingNode:
		return fmt.Errorf("line %d has a plain value for %s", n.Content[i].Line, n.Content[i].Value)
	}
	return put(old, parts[used:], value)
}

func name(part string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(part)
	return n
}

// remove takes a key out, and what is empty because of that. It reports whether it
// was there.
func remove(n *yaml.Node, parts []string) (bool, error) {
	i, used := at(n, parts)
	if i < 0 {
		return false, nil
	}
	if used < len(parts) {
		below := n.Content[i+1]
		if below.Kind == yaml.AliasNode || below.Anchor != "" {
			return false, fmt.Errorf("line %d stands in several places at once", n.Content[i].Line)
		}
		if below.Kind != yaml.MappingNode {
			return false, nil
		}
		found, err := remove(below, parts[used:])
		if err != nil || !found || len(below.Content) > 0 {
			return found, err
		}
	}
	n.Content = slices.Delete(n.Content, i, i+2)
	return true, nil
}
