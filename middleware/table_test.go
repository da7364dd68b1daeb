package middleware

import (
	"fmt"
	"sync"
	"testing"
)

// TestMethodTable: the table is bounded, and works for methods beyond it.
func TestMethodTable(t *testing.T) {
	var table methodTable
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range maxKnownMethods {
				name := fmt.Sprintf("M%d", i*4+g)
				if m := table.get("/s.S/" + name); m.service != "s.S" || m.method != name {
					t.Errorf("get = %+v", m)
				}
			}
		})
	}
	wg.Wait()
	known := *table.known.Load()
	if len(known) != maxKnownMethods {
		t.Errorf("%d methods are remembered, want %d", len(known), maxKnownMethods)
	}
	for full, m := range known {
		if table.get(full) != m {
			t.Errorf("%s is not remembered", full)
		}
		break
	}
	allocs := testing.AllocsPerRun(100, func() { table.get("/s.S/beyond") })
	if allocs > 10 {
		t.Errorf("a method beyond the bound costs %v allocations", allocs)
	}
}

// TestDeclaredIdempotency reads the options of methods that are linked in.
func TestDeclaredIdempotency(t *testing.T) {
	for _, tc := range []struct {
		service, method string
		want            Idempotency
	}{
		{"grpc.health.v1.Health", "Check", IdempotencyUnknown},
		{"no.such.Service", "Get", IdempotencyUnknown},
		{"", "", IdempotencyUnknown},
		{"google.protobuf", "StringValue", IdempotencyUnknown}, // a message
	} {
		if got := declaredIdempotency(tc.service, tc.method); got != tc.want {
			t.Errorf("%s/%s is %v, want %v", tc.service, tc.method, got, tc.want)
		}
	}
}
