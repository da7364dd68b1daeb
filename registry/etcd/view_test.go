package etcd

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"plinth.internal/registry"
)

func kv(id string, revision int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key:         []byte("/plinth/services/orders/" + id),
		Value:       []byte(`{"endpoints":{"grpc":"h:1"}}`),
		ModRevision: revision,
	}
}

func listed(cluster uint64, revision int64, kvs ...*mvccpb.KeyValue) *clientv3.GetResponse {
	return &clientv3.GetResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: cluster, Revision: revision}, Kvs: kvs}
}

func changed(events ...*clientv3.Event) clientv3.WatchResponse {
	last := events[len(events)-1].Kv.ModRevision
	return clientv3.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: last}, Events: events}
}

func put(id string, revision int64) *clientv3.Event {
	return &clientv3.Event{Type: mvccpb.Event_PUT, Kv: kv(id, revision)}
}

func del(id string, revision int64) *clientv3.Event {
	return &clientv3.Event{Type: mvccpb.Event_DELETE, Kv: kv(id, revision)}
}

func ids(v *serviceView) string {
	var ids []string
	for _, inst := range v.snapshot().Instances {
		ids = append(ids, inst.ID)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func TestServiceView(t *testing.T) {
	v := &serviceView{service: "orders", prefix: "/plinth/services/orders/"}
	if err := v.replace(t.Context(), listed(1, 10, kv("a", 5), kv("b", 10))); err != nil {
		t.Fatal(err)
	}
	v.apply(changed(put("c", 11), del("a", 12)))
	if got := ids(v); got != "b c" || v.snapshot().Revision != 12 {
		t.Errorf("after changes: %s at %d, want b c at 12", got, v.snapshot().Revision)
	}
	// A list overtakes changes that are still on their way.
	if err := v.replace(t.Context(), listed(1, 20, kv("b", 10))); err != nil {
		t.Fatal(err)
	}
	v.apply(changed(put("c", 15), del("b", 20)))
	if got := ids(v); got != "b" {
		t.Errorf("after changes that are older than the list: %s, want b", got)
	}
	// A key that is not ours to read: below an instance.
	v.apply(changed(put("b/c", 21)))
	if s := v.snapshot(); len(s.Instances) != 1 || len(s.Skipped) != 1 || s.Skipped[0].Key != "/plinth/services/orders/b/c" {
		t.Errorf("after a key with a slash: %+v, want it skipped", s)
	}
	for name, other := range map[string]*clientv3.GetResponse{
		"another cluster":   listed(2, 30),
		"went back in time": listed(1, 20),
	} {
		if err := v.replace(t.Context(), other); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("replace = %v, want %q", err, name)
		}
	}
	if got := ids(v); got != "b" {
		t.Errorf("after lists that were refused: %s, want b", got)
	}
}

func TestJudge(t *testing.T) {
	const lease = 7
	ours := func(value string, revision, lease int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Value: []byte(value), ModRevision: revision, Lease: lease}
	}
	tests := []struct {
		name     string
		kv       *mvccpb.KeyValue // nil: deleted
		at       int64
		gone     bool
		revision int64 // known afterwards
	}{
		{"our write", ours("v1", 10, lease), 10, false, 10},
		{"our write, read later", ours("v1", 10, lease), 99, false, 10},
		{"before our write", ours("x", 9, 0), 9, false, 10},
		{"deleted before our write", nil, 9, false, 10},
		{"an update that has arrived unknown to us", ours("v2", 11, lease), 11, false, 11},
		{"deleted", nil, 11, true, 10},
		{"other lease", ours("v1", 11, 8), 11, true, 10},
		{"other value", ours("x", 11, lease), 11, true, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &registration{key: "k", lease: lease, revision: 10, values: [][]byte{[]byte("v1"), []byte("v2")}}
			err := r.judge(tt.kv, tt.kv == nil, tt.at)
			if errors.Is(err, errGone) != tt.gone || r.revision != tt.revision {
				t.Errorf("judge = %v, revision %d; want gone %v, revision %d", err, r.revision, tt.gone, tt.revision)
			}
		})
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestLink(t *testing.T) {
	l := newLink()
	up, broken := l.whenUp(), l.whenBroken()
	l.set(connectivity.Connecting)
	if isClosed(up) || isClosed(broken) {
		t.Error("connecting counts as up or broken")
	}
	l.set(connectivity.TransientFailure)
	if isClosed(up) || !isClosed(broken) || !isClosed(l.whenBroken()) {
		t.Error("a failure is not broken, or is up")
	}
	l.set(connectivity.TransientFailure)
	l.set(connectivity.Ready)
	if !isClosed(up) || isClosed(l.whenBroken()) {
		t.Error("ready is not up, or still broken")
	}
	if isClosed(l.whenUp()) {
		t.Error("the next time is now")
	}
}

// An etcd that accepts connections and says nothing, as one that is stopped.
func TestHangingEtcd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // the kernel accepts; nobody answers
	client, err := Dial(Config{Endpoints: []string{listener.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	reg := Open(client)
	began := time.Now()
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > registry.OperationTimeout+time.Second {
		t.Errorf("Announce took %v, want at most %v", took, registry.OperationTimeout)
	}
	within(t, 2*time.Second, "error", func() bool {
		err := reg.Status().Err
		return err != nil && strings.Contains(err.Error(), "does not answer")
	})
	began = time.Now()
	if err := reg.Close(); err != nil {
		t.Errorf("Close = %v, want none: nothing was registered", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close took %v with an attempt under way, want it cut short", took)
	}
}
