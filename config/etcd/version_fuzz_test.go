package etcd

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// FuzzVersion: whatever stands where a version is kept is a version with a number,
// or an error.
func FuzzVersion(f *testing.F) {
	f.Add("/h/00000000000000000007", []byte(`{"revision":3,"author":"anna","data":"YQ=="}`))
	f.Add("/h/", []byte(`{}`))
	f.Add("/h/x", []byte(`{"data":1}`))
	f.Add("/h/99999999999999999999", []byte(`null`))
	f.Add("/other", []byte(``))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		v, err := decodeVersion("/h/", &mvccpb.KeyValue{Key: []byte(key), Value: value, ModRevision: 5})
		if err == nil && v.Revision == 0 || err != nil && v.Number != 0 {
			t.Fatalf("%q %q is %+v, %v", key, value, v, err)
		}
	})
}
