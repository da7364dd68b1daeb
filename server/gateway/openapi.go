package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// MergeOpenAPI makes one document of several that protoc-gen-openapiv2 has
// generated: the first one's head, and the paths, definitions and tags of all. A
// path that two documents have with the same verb is an error, and so is what is
// no document.
func MergeOpenAPI(docs ...[]byte) ([]byte, error) {
	var out map[string]any
	for i, doc := range docs {
		var next map[string]any
		if err := json.Unmarshal(doc, &next); err != nil {
			return nil, fmt.Errorf("read OpenAPI document %d: %w", i+1, err)
		}
		if next == nil || next["swagger"] == nil && next["openapi"] == nil {
			return nil, fmt.Errorf("read OpenAPI document %d: it has neither a field swagger nor openapi", i+1)
		}
		if out == nil {
			out = next
			continue
		}
		if err := mergePaths(out, next); err != nil {
			return nil, fmt.Errorf("merge OpenAPI document %d: %w", i+1, err)
		}
		mergeObject(out, next, "definitions")
		mergeTags(out, next)
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	return append(b, '\n'), nil
}

func mergePaths(out, next map[string]any) error {
	var errs []error
	to := object(out, "paths")
	from, _ := next["paths"].(map[string]any)
	for path, item := range from {
		verbs, _ := item.(map[string]any)
		have, ok := to[path].(map[string]any)
		if !ok {
			to[path] = item
			continue
		}
		for verb := range verbs {
			if have[verb] != nil {
				errs = append(errs, fmt.Errorf("%s %s is there already", verb, path))
			}
		}
		maps.Copy(have, verbs)
	}
	return errors.Join(errs...)
}

func mergeObject(out, next map[string]any, key string) {
	if from, ok := next[key].(map[string]any); ok {
		maps.Copy(object(out, key), from)
	}
}

func mergeTags(out, next map[string]any) {
	from, _ := next["tags"].([]any)
	if to, ok := out["tags"].([]any); ok || len(from) > 0 {
		out["tags"] = append(to, from...)
	}
}

// object is a field of a document, made where it is not there.
func object(doc map[string]any, key string) map[string]any {
	o, ok := doc[key].(map[string]any)
	if !ok {
		o = map[string]any{}
		doc[key] = o
	}
	return o
}
