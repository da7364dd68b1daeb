package etcd

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry"
)

// fleet are the entries of n instances as etcd returns them.
func fleet(b *testing.B, n int, revision int64) []*mvccpb.KeyValue {
	b.Helper()
	kvs := make([]*mvccpb.KeyValue, n)
	for i := range kvs {
		inst := registry.Instance{
			ID:        fmt.Sprintf("orders-7d9f8b6c5d-%05d", i),
			Service:   "orders",
			Version:   "1.42.0",
			Zone:      "eu-central-1a",
			Endpoints: map[string]string{"grpc": fmt.Sprintf("10.1.%d.%d:9000", i/250, i%250), "admin": fmt.Sprintf("10.1.%d.%d:9100", i/250, i%250)},
			Metadata:  map[string]string{"team": "checkout"},
			Started:   time.Date(2026, 5, 4, 3, 2, 1, i, time.UTC),
		}
		value, err := registry.Encode(inst)
		if err != nil {
			b.Fatal(err)
		}
		kvs[i] = &mvccpb.KeyValue{Key: []byte(instanceKey(DefaultNamespace, "orders", inst.ID)), Value: value, ModRevision: revision}
	}
	return kvs
}

// cpu is the time that this process has computed: on a machine that does other
// things too it says more than the clock.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkFullList decodes a list of 10 000 instances; what the registry does
// with it is BenchmarkTake in package registry.
func BenchmarkFullList(b *testing.B) {
	const n = 10_000
	response := listed(1, 10, fleet(b, n, 5)...)
	var kept *serviceView
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began, rounds := cpu(b), 0
	for b.Loop() {
		kept = &serviceView{service: "orders", prefix: servicePrefix(DefaultNamespace, "orders"), sink: func(registry.List) {}}
		if err := kept.replace(b.Context(), response); err != nil {
			b.Fatal(err)
		}
		kept.emit()
		rounds++
	}
	b.ReportMetric((cpu(b)-began).Seconds()*1000/float64(rounds), "cpu-ms/op")
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/instance")
	runtime.KeepAlive(kept)
}

// BenchmarkChurn is the work of five seconds in which 100 of 1000 instances are
// replaced.
func BenchmarkChurn(b *testing.B) {
	const n, replaced = 1000, 100
	kvs := fleet(b, n, 5)
	v := &serviceView{service: "orders", prefix: servicePrefix(DefaultNamespace, "orders"), sink: func(registry.List) {}}
	if err := v.replace(b.Context(), listed(1, 10, kvs...)); err != nil {
		b.Fatal(err)
	}
	revision := int64(10)
	began, rounds := cpu(b), 0
	for b.Loop() {
		for i := range replaced {
			revision++
			old := &clientv3.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: kvs[i].Key, ModRevision: revision}}
			v.apply(changed(old))
			revision++
			fresh := &mvccpb.KeyValue{Key: kvs[i].Key, Value: kvs[i].Value, ModRevision: revision}
			v.apply(changed(&clientv3.Event{Type: mvccpb.Event_PUT, Kv: fresh}))
			if i%2 == 0 { // at most ten lists in a second
				v.emit()
			}
		}
		rounds++
	}
	b.ReportMetric((cpu(b)-began).Seconds()*1000/float64(rounds), "cpu-ms/op")
}
