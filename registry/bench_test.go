package registry

import (
	"fmt"
	"testing"
	"time"
)

func fleet(n, from int) List {
	var list List
	for i := from; i < from+n; i++ {
		list.Instances = append(list.Instances, Instance{
			ID:        fmt.Sprintf("orders-7d9f8b6c5d-%05d", i),
			Service:   "orders",
			Version:   "1.42.0",
			Zone:      "eu-central-1a",
			Endpoints: map[string]string{"grpc": fmt.Sprintf("10.1.%d.%d:9000", i/250, i%250), "admin": fmt.Sprintf("10.1.%d.%d:9100", i/250, i%250)},
			Metadata:  map[string]string{"team": "checkout"},
			Weight:    DefaultWeight,
			State:     Up,
			Started:   time.Unix(int64(i), 0),
		})
	}
	return list
}

// BenchmarkTake applies a list: one that confirms the last, one in which a
// tenth has been replaced, and one of which half has lapsed.
func BenchmarkTake(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		for _, bm := range []struct {
			name  string
			lists []List
		}{
			{"same", []List{fleet(n, 0), fleet(n, 0)}},
			{"tenth", []List{fleet(n, 0), fleet(n, n/10)}},
			{"half", []List{fleet(n, 0), fleet(n/2, 0)}},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, bm.name), func(b *testing.B) {
				r := New(newFake())
				defer r.Close()
				w := &watch{registry: r, service: "orders", changed: make(chan struct{}), stirred: make(chan struct{}, 1), unsaved: make(chan struct{}, 1)}
				i := 0
				for b.Loop() {
					w.take(bm.lists[i%2])
					i++
				}
			})
		}
	}
}

func BenchmarkSave(b *testing.B) {
	d := newDisk(b.TempDir(), newFake())
	s := Snapshot{Service: "orders", At: time.Now(), Instances: fleet(1000, 0).Instances}
	for b.Loop() {
		if err := d.save(s); err != nil {
			b.Fatal(err)
		}
	}
}
