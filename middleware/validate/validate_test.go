package validate_test

import (
	"errors"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/bufbuild/protocompile"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"plinth.internal/apierror"
	"plinth.internal/middleware/validate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// compile builds the messages of a proto from its text.
func compile(t testing.TB, text string) protoreflect.FileDescriptor {
	t.Helper()
	linked := protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		fd, err := protoregistry.GlobalFiles.FindFileByPath(path)
		return protocompile.SearchResult{Desc: fd}, err
	})
	source := &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"test.proto": text})}
	c := protocompile.Compiler{Resolver: protocompile.CompositeResolver{source, linked}}
	files, err := c.Compile(t.Context(), "test.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0]
}

const orders = `
syntax = "proto3";
package validatetest;
import "buf/validate/validate.proto";
message Order {
  string id = 1 [(buf.validate.field).string.min_len = 3];
  repeated Item items = 2 [(buf.validate.field).repeated = {min_items: 1, max_items: 100}];
  map<string, Item> named = 3;
  int32 low = 4;
  int32 high = 5;
  option (buf.validate.message).cel = {
    id: "order.range"
    message: "low must not be above high"
    expression: "this.low <= this.high"
  };
}
message Item {
  int32 quantity = 1 [(buf.validate.field).int32 = {gt: 0}];
  Item part = 2;
}
message Free { string anything = 1; }
`

func message(t testing.TB, fd protoreflect.FileDescriptor, name, text string) *dynamicpb.Message {
	t.Helper()
	m := dynamicpb.NewMessage(fd.Messages().ByName(protoreflect.Name(name)))
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestValidate(t *testing.T) {
	fd := compile(t, orders)
	v := validate.New()
	for _, tt := range []struct {
		name, message, text string
		want                []apierror.Violation // without descriptions
	}{
		{"no rules", "Free", `{}`, nil},
		{"good", "Order", `{"id":"abc","items":[{"quantity":1}]}`, nil},
		{"one field", "Order", `{"id":"ü","items":[{"quantity":1}]}`, []apierror.Violation{{Field: "id", Reason: "STRING_MIN_LEN"}}},
		{"nested", "Order", `{"id":"abc","items":[{"quantity":1},{"quantity":1,"part":{"quantity":-1}}]}`,
			[]apierror.Violation{{Field: "items[1].part.quantity", Reason: "INT32_GT"}}},
		{"in a map", "Order", `{"id":"abc","items":[{"quantity":1}],"named":{"x":{}}}`, []apierror.Violation{{Field: `named["x"].quantity`, Reason: "INT32_GT"}}},
		{"the whole message", "Order", `{"id":"abc","items":[{"quantity":1}],"low":2,"high":1}`, []apierror.Violation{{Reason: "ORDER_RANGE"}}},
		{"several", "Order", `{}`, []apierror.Violation{{Field: "id", Reason: "STRING_MIN_LEN"}, {Field: "items", Reason: "REPEATED_MIN_ITEMS"}}},
	} {
		err := v.Validate(message(t, fd, tt.message, tt.text))
		if tt.want == nil {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		e, ok := apierror.From(err)
		if !ok || e.Code() != codes.InvalidArgument || e.Reason() != validate.Invalid || len(e.Violations()) != len(tt.want) {
			t.Errorf("%s: %v, violations %+v", tt.name, err, e.Violations())
			continue
		}
		for i, got := range e.Violations() {
			if got.Field != tt.want[i].Field || got.Reason != tt.want[i].Reason || got.Description == "" {
				t.Errorf("%s: violation %+v, want %+v", tt.name, got, tt.want[i])
			}
		}
		if first := tt.want[0].Field; !strings.HasPrefix(e.Message(), first) || len(tt.want) > 1 && !strings.HasSuffix(e.Message(), "(and 1 more)") {
			t.Errorf("%s: message %q", tt.name, e.Message())
		}
	}
}

// TestWarm finds rules that do not compile, however deep, and names them.
func TestWarm(t *testing.T) {
	const head = `syntax = "proto3"; package validatetest; import "buf/validate/validate.proto"; `
	bad := `(buf.validate.field).cel = {id: "x", message: "x", expression: "this.nothing > 1"}`
	for _, tt := range []struct {
		name, text string
		want       []string // in the error; nil = none
	}{
		{"good", orders, nil},
		{"a field", head + `message Order { string id = 1; int32 n = 2 [` + bad + `]; }`, []string{"field n of validatetest.Order"}},
		{"two fields", head + `message Order { string id = 1 [` + bad + `]; int32 n = 2 [` + bad + `]; }`,
			[]string{"field id of validatetest.Order", "field n of validatetest.Order"}},
		{"nested", head + `message Order { repeated Item items = 1; } message Item { Part part = 1; } message Part { Item back = 1; int32 n = 2 [` + bad + `]; }`,
			[]string{"field n of validatetest.Part"}},
		{"in a map", head + `message Order { map<string, Item> items = 1; } message Item { int32 n = 2 [` + bad + `]; }`, []string{"field n of validatetest.Item"}},
		{"the wrong kind of rule", head + `message Order { int32 n = 1 [(buf.validate.field).string.min_len = 1]; }`, []string{"field n of validatetest.Order"}},
		{"a message", head + `message Order { int32 n = 1; option (buf.validate.message).cel = {id: "x", expression: "this.m > 1"}; }`,
			[]string{"message validatetest.Order"}},
		{"only what is evaluated fails", head + `message Order { int32 n = 1 [(buf.validate.field).cel = {id: "x", message: "x", expression: "1 / this > 0"}]; }`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			md := compile(t, tt.text).Messages().ByName("Order")
			v := validate.New()
			err := v.Warm(md)
			if (err != nil) != (tt.want != nil) {
				t.Fatalf("Warm = %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), "compile the validation rules of "+want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			// A service without Warm finds out with its first call, and that is
			// not the caller's fault.
			broken := tt.want != nil && tt.name != "nested" && tt.name != "in a map" || strings.HasPrefix(tt.name, "only")
			if got := v.Validate(dynamicpb.NewMessage(md)); broken && !validate.Domain.Is(got, validate.Broken) {
				t.Errorf("Validate = %v", got)
			} else if e, ok := apierror.From(got); broken && ok && (e.Code() != codes.Internal || errors.Unwrap(e) == nil || strings.Contains(e.Message(), "this")) {
				t.Errorf("Validate = %+v", e)
			}
		})
	}
}

// TestOptions: the options of protovalidate are passed on.
func TestOptions(t *testing.T) {
	fd := compile(t, orders)
	v := validate.New(protovalidate.WithFailFast())
	e, ok := apierror.From(v.Validate(message(t, fd, "Order", `{}`)))
	if !ok || len(e.Violations()) != 1 {
		t.Errorf("with fail-fast: %v", e)
	}
}

func BenchmarkValidate(b *testing.B) {
	fd := compile(b, orders)
	v := validate.New()
	for name, m := range map[string]*dynamicpb.Message{
		"rules": message(b, fd, "Order", `{"id":"abc","items":[{"quantity":1}]}`), "none": message(b, fd, "Free", `{"anything":"x"}`),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := v.Validate(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
