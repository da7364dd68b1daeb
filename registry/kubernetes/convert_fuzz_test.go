package kubernetes

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"plinth.internal/registry"
)

// FuzzConvert checks that whatever the API says, the list has only instances
// that can be called, each once.
func FuzzConvert(f *testing.F) {
	data, err := os.ReadFile("testdata/list.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(data))
	f.Add(`{"items":[{"addressType":"IPv6","endpoints":[{"addresses":["fe80::1%eth0"]}],"ports":[{"port":-1},{"port":70000,"name":"x"}]}]}`)
	f.Add(`{"items":[{"endpoints":[{"targetRef":{"kind":"Pod","name":"../x"},"addresses":[""]}],"ports":[{"port":1}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var parsed discoveryv1.EndpointSliceList
		if json.Unmarshal([]byte(text), &parsed) != nil {
			return
		}
		var all []*discoveryv1.EndpointSlice
		endpoints := 0
		for i := range parsed.Items {
			all = append(all, &parsed.Items[i])
			endpoints += len(parsed.Items[i].Endpoints)
		}
		list := convert("orders", all)
		seen := make(map[string]bool)
		for _, inst := range list.Instances {
			if _, err := registry.Encode(inst); err != nil && !strings.Contains(err.Error(), "must not exceed") {
				t.Errorf("%+v: %v", inst, err)
			}
			if seen[inst.ID] {
				t.Errorf("%s is listed twice", inst.ID)
			}
			seen[inst.ID] = true
		}
		for _, id := range list.Withdrawn {
			if seen[id] {
				t.Errorf("%s is listed and withdrawn", id)
			}
		}
		if n := len(list.Instances) + len(list.Skipped) + len(list.Withdrawn); n > endpoints {
			t.Errorf("%d entries made of %d endpoints", n, endpoints)
		}
	})
}

func BenchmarkConvert(b *testing.B) {
	// As the EndpointSlice controller cuts 10 000 endpoints.
	var all []*discoveryv1.EndpointSlice
	for i := range 100 {
		s := slice(fmt.Sprintf("orders-%d", i), v4)
		for j := range 100 {
			s.Endpoints = append(s.Endpoints, pod(fmt.Sprintf("orders-%d-%d", i, j), fmt.Sprintf("10.1.%d.%d", i, j), "rs"))
		}
		all = append(all, s)
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := len(convert("orders", all).Instances); got != 10_000 {
			b.Fatal(got)
		}
	}
}
