package client

import (
	"bytes"
	"encoding/gob"
	"errors"
	"net/rpc"
	"reflect"
	"testing"
	"time"
)

type (
	gobBox    struct{ A, B any }
	gobLeaf   struct{ N int }
	gobBroken struct{}
)

func (gobBroken) GobEncode() ([]byte, error) { return nil, errors.New("as the test wants it") }
func (*gobBroken) GobDecode([]byte) error    { return nil }

// TestNetRPCRequestsInInterfaces: values within values of interfaces that cannot be
// encoded spoil nothing for those that come after.
func TestNetRPCRequestsInInterfaces(t *testing.T) {
	gob.Register(gobBox{})
	gob.Register(gobLeaf{})
	gob.Register(gobBroken{})
	var r netRPCRequests
	if err := r.init(); err != nil {
		t.Fatal(err)
	}
	if err := r.encode(gobBox{A: gobBox{A: gobLeaf{1}, B: gobBroken{}}}); err == nil {
		t.Fatal("what cannot be encoded was")
	}
	want := gobBox{A: gobBox{A: gobLeaf{1}, B: gobLeaf{2}}}
	if err := r.encode(want); err != nil {
		t.Fatal(err)
	}
	r.queue(rpc.Request{ServiceMethod: "S.M", Seq: 1})
	dec := gob.NewDecoder(bytes.NewReader(r.take(nil)))
	var head rpc.Request
	var got gobBox
	if err := errors.Join(dec.Decode(&head), dec.Decode(&got)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestHoldsInterface(t *testing.T) {
	type recursive struct {
		Next *recursive
		Name string
	}
	type deep struct {
		Next *deep
		Map  map[string][]gobBox
	}
	type hidden struct{ inner any }
	for _, tt := range []struct {
		value any
		want  bool
	}{
		{1, false},
		{"x", false},
		{time.Time{}, false},
		{[]gobLeaf{}, false},
		{recursive{}, false},
		{hidden{inner: 1}, false}, // gob passes it over
		{gobBox{}, true},
		{&gobBox{}, true},
		{[2]any{}, true},
		{map[any]int{}, true},
		{deep{}, true},
	} {
		if got := holdsInterface(reflect.TypeOf(tt.value), map[reflect.Type]bool{}); got != tt.want {
			t.Errorf("%T: %v, want %v", tt.value, got, tt.want)
		}
	}
}
