package load_test

import (
	"encoding/base64"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"plinth.internal/middleware/load"
)

// orcaType builds the type xds.data.orca.v3.OrcaLoadReport from its published
// fields.
func orcaType(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	double := descriptorpb.FieldDescriptorProto_TYPE_DOUBLE.Enum()
	field := func(name string, n int32, kind *descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: &name, Number: &n, Type: kind, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	}
	report := &descriptorpb.DescriptorProto{
		Name: new("OrcaLoadReport"),
		Field: []*descriptorpb.FieldDescriptorProto{
			field("cpu_utilization", 1, double), field("mem_utilization", 2, double),
			field("rps", 3, descriptorpb.FieldDescriptorProto_TYPE_UINT64.Enum()),
			field("rps_fractional", 6, double), field("eps", 7, double), field("application_utilization", 9, double),
		},
	}
	for _, m := range []struct {
		field, entry string
		n            int32
	}{{"request_cost", "RequestCostEntry", 4}, {"utilization", "UtilizationEntry", 5}, {"named_metrics", "NamedMetricsEntry", 8}} {
		report.NestedType = append(report.NestedType, &descriptorpb.DescriptorProto{
			Name: &m.entry, Options: &descriptorpb.MessageOptions{MapEntry: new(true)},
			Field: []*descriptorpb.FieldDescriptorProto{
				field("key", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()), field("value", 2, double),
			},
		})
		f := field(m.field, m.n, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum())
		f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		f.TypeName = new(".xds.data.orca.v3.OrcaLoadReport." + m.entry)
		report.Field = append(report.Field, f)
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("orca.proto"), Package: new("xds.data.orca.v3"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{report},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().Get(0)
}

// orca makes a report as another server would.
func orca(t testing.TB, fields map[string]float64, named map[string]float64) []byte {
	t.Helper()
	desc := orcaType(t)
	m := dynamicpb.NewMessage(desc)
	for name, v := range fields {
		m.Set(desc.Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOfFloat64(v))
	}
	for _, field := range []protoreflect.Name{"named_metrics", "utilization"} {
		entries := m.Mutable(desc.Fields().ByName(field)).Map()
		for name, v := range named {
			entries.Set(protoreflect.ValueOfString(name).MapKey(), protoreflect.ValueOfFloat64(v))
		}
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	type fields = map[string]float64
	none := load.Report{InFlight: -1, Failures: -1}
	for _, tt := range []struct {
		name string
		raw  []byte
		want load.Report
		ok   bool
	}{
		{"nothing", nil, none, false},
		{"empty", []byte{}, none, false},
		{"no report", []byte("garbage"), none, false},
		{"too large", make([]byte, 1<<20), none, false},
		{"all", orca(t, fields{"rps_fractional": 100, "eps": 2, "application_utilization": 1.5, "cpu_utilization": .5},
			fields{"plinth.rif": 7, "plinth.latency": .025, "plinth.failures": .1, "other": 3}),
			load.Report{InFlight: 7, Latency: 25 * time.Millisecond, Failures: .1, QPS: 100, EPS: 2, Utilization: 1.5}, true},
		{"another server's", orca(t, fields{"rps_fractional": 100, "cpu_utilization": .5, "mem_utilization": .9}, fields{"other": 3}),
			load.Report{InFlight: -1, Failures: -1, QPS: 100, Utilization: .5}, true},
		{"idle", orca(t, nil, fields{"plinth.rif": 0, "plinth.failures": 0}), load.Report{}, true},
		{"nothing of use", orca(t, fields{"mem_utilization": .9}, fields{"other": 3}), none, false},
		{"impossible", orca(t, fields{"rps_fractional": math.NaN(), "eps": -1, "application_utilization": math.Inf(1)},
			fields{"plinth.rif": -3, "plinth.latency": math.NaN(), "plinth.failures": math.Inf(1)}), none, false},
		{"absurd", orca(t, nil, fields{"plinth.rif": 1e300, "plinth.latency": 1e300, "plinth.failures": 7}),
			load.Report{InFlight: 1 << 40, Latency: time.Hour, Failures: 1}, true},
		{"many metrics", orca(t, nil, fields{"plinth.rif": 1, strings.Repeat("x", 5000): 2}), load.Report{InFlight: 1, Failures: -1}, true},
		{"cut off", orca(t, fields{"eps": 2}, fields{"plinth.rif": 1})[:20], none, false},
		{"entry cut off", protowire.AppendBytes(protowire.AppendTag(nil, 8, protowire.BytesType), []byte{0x0a, 0x7f}), none, false},
		{"entry with another field", protowire.AppendBytes(protowire.AppendTag(nil, 8, protowire.BytesType), []byte{0x18, 0x01}), none, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r, ok := load.Parse(tt.raw); r != tt.want || ok != tt.ok {
				t.Errorf("Parse = %+v, %v, want %+v, %v", r, ok, tt.want, tt.ok)
			}
			if r, ok := load.Parse(string(tt.raw)); r != tt.want || ok != tt.ok {
				t.Errorf("Parse of the string = %+v, %v", r, ok)
			}
			for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.StdEncoding} {
				h := http.Header{}
				h.Set(load.HeaderReport, enc.EncodeToString(tt.raw))
				if r, ok := load.FromHTTP(h); r != tt.want || ok != tt.ok {
					t.Errorf("FromHTTP = %+v, %v", r, ok)
				}
			}
		})
	}
	for _, v := range []string{"", "====", "not base64!"} {
		h := http.Header{}
		h.Set(load.HeaderReport, v)
		if r, ok := load.FromHTTP(h); r != none || ok {
			t.Errorf("FromHTTP of %q = %+v, %v", v, r, ok)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	raw := string(orca(t, map[string]float64{"rps_fractional": 100, "eps": 2, "application_utilization": 1.5},
		map[string]float64{"plinth.rif": 7, "plinth.latency": .025, "plinth.failures": .1}))
	if n := testing.AllocsPerRun(100, func() {
		if r, ok := load.Parse(raw); !ok || r.InFlight != 7 {
			t.Fatal("wrong report")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	raw := string(orca(b, map[string]float64{"rps_fractional": 100, "eps": 2, "application_utilization": 1.5},
		map[string]float64{"plinth.rif": 7, "plinth.latency": .025, "plinth.failures": .1}))
	b.ReportAllocs()
	for b.Loop() {
		load.Parse(raw)
	}
}

// FuzzParse: whatever comes is a report within its bounds or none, and what
// protobuf can read is read alike.
func FuzzParse(f *testing.F) {
	f.Add(orca(f, map[string]float64{"rps_fractional": 100, "eps": 2}, map[string]float64{"plinth.rif": 7, "plinth.latency": .025, "plinth.failures": .1}))
	f.Add([]byte("garbage"))
	desc := orcaType(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, ok := load.Parse(raw)
		if again, okAgain := load.Parse(string(raw)); again != r || okAgain != ok {
			t.Fatalf("bytes are %+v, %v, and the string %+v, %v", r, ok, again, okAgain)
		}
		if !ok {
			if r != (load.Report{InFlight: -1, Failures: -1}) {
				t.Fatalf("no report says %+v", r)
			}
			return
		}
		bounded := r.InFlight >= -1 && r.InFlight <= 1<<40 && r.Latency >= 0 && r.Latency <= time.Hour && (r.Failures == -1 || r.Failures >= 0 && r.Failures <= 1)
		for _, v := range []float64{r.QPS, r.EPS, r.Utilization} {
			bounded = bounded && v >= 0 && !math.IsInf(v, 0)
		}
		if !bounded {
			t.Fatalf("out of bounds: %+v", r)
		}
		m := dynamicpb.NewMessage(desc)
		if proto.Unmarshal(raw, m) != nil {
			return // it is stricter, about UTF-8 for instance
		}
		if v := m.Get(desc.Fields().ByName("rps_fractional")).Float(); v > 0 && !math.IsInf(v, 0) && v != r.QPS {
			t.Errorf("QPS is %v, protobuf reads %v", r.QPS, v)
		}
	})
}
