package gateway

import (
	"encoding/json"
	"slices"
	"testing"

	"plinth.internal/server/gateway/testdata/restv1"
)

// FuzzMergeOpenAPI holds the merge to its promise for any two documents: an error, or
// a document with what both have, which can be merged again.
func FuzzMergeOpenAPI(f *testing.F) {
	f.Add(restv1.RestOpenAPI, []byte(`{"swagger":"2.0","tags":[{"name":"B"}],"paths":{"/b":{"get":{}}},"definitions":{"B":{}}}`))
	f.Add([]byte(`{"swagger":"2.0","paths":{"/a":{"get":{}}}}`), []byte(`{"swagger":"2.0","paths":{"/a":{"put":{}}}}`))
	f.Add([]byte(`{"openapi":"3","paths":[],"tags":{},"definitions":1}`), []byte(`{"openapi":"3","paths":{"/a":null},"tags":[1],"definitions":{"A":1}}`))
	f.Add([]byte(`{"openapi":"3","paths":{"/a":1}}`), []byte(`{"openapi":"3","paths":{"/a":{"get":{}}}}`))
	f.Add([]byte(`{"openapi":"3","paths":{"/a":{"get":{}}}}`), []byte(`{"openapi":"3","paths":{"/a":1}}`))
	f.Add([]byte(`null`), []byte("{"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		merged, err := MergeOpenAPI(a, b)
		if (merged == nil) == (err == nil) {
			t.Fatalf("%q with error %v", merged, err)
		}
		if err != nil {
			return
		}
		got := decode(t, merged)
		if n := tags(merged); n != tags(a)+tags(b) {
			t.Errorf("%d tags in %s, made of %s and %s", n, merged, a, b)
		}
		for _, doc := range [][]byte{a, b} {
			for _, want := range decode(t, doc) {
				if !slices.Contains(got, want) {
					t.Errorf("%s is lost in %s, made of %s and %s", want, merged, a, b)
				}
			}
		}
		if again, err := MergeOpenAPI(merged); err != nil || string(again) != string(merged) {
			t.Errorf("merged alone: %s, %v; want %s", again, err, merged)
		}
	})
}

// decode lists what a document has: its paths, their verbs, and definitions.
func decode(t *testing.T, doc []byte) (list []string) {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(doc, &object); err != nil {
		t.Fatalf("%q: %v", doc, err)
	}
	paths, _ := object["paths"].(map[string]any)
	for path, item := range paths {
		list = append(list, "path "+path)
		verbs, _ := item.(map[string]any)
		for verb := range verbs {
			list = append(list, verb+" "+path)
		}
	}
	definitions, _ := object["definitions"].(map[string]any)
	for name := range definitions {
		list = append(list, "definition "+name)
	}
	return list
}

// tags counts the tags of a document.
func tags(doc []byte) int {
	var object map[string]any
	_ = json.Unmarshal(doc, &object) // decode has looked at it
	list, _ := object["tags"].([]any)
	return len(list)
}
