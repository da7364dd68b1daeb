package registry

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func valid() Instance {
	return Instance{ID: "o-1", Service: "orders", Endpoints: map[string]string{"grpc": "10.0.0.1:9000"}}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Instance)
		want   string // "" for valid
	}{
		{"as it is", func(*Instance) {}, ""},
		{"everything set", func(i *Instance) { i.Weight, i.State, i.Started = 1, Draining, time.Now() }, ""},
		{"all kinds of characters", func(i *Instance) { i.ID = "Az09._-:" }, ""},
		{"IPv6", func(i *Instance) { i.Endpoints["grpc"] = "[::1]:1" }, ""},
		{"host name", func(i *Instance) { i.Endpoints["grpc"] = "orders-0.orders:65535" }, ""},
		{"no id", func(i *Instance) { i.ID = "" }, `id "": must not be empty`},
		{"slash in id", func(i *Instance) { i.ID = "a/b" }, `id "a/b": must consist of letters`},
		{"letter beyond ASCII", func(i *Instance) { i.Service = "ordérs" }, `service "ordérs": must consist of letters`},
		{"parent directory", func(i *Instance) { i.Service = ".." }, "must not begin with '.'"},
		{"long id", func(i *Instance) { i.ID = strings.Repeat("x", 254) }, "must not be longer than 253 bytes"},
		{"address for a service", func(i *Instance) { i.Service = "orders:9000" }, `service "orders:9000": must not contain ':'`},
		{"no endpoints", func(i *Instance) { i.Endpoints = nil }, "endpoints: must have at least one"},
		{"no endpoint name", func(i *Instance) { i.Endpoints[""] = "h:1" }, `endpoint name "": must not be empty`},
		{"no port", func(i *Instance) { i.Endpoints["grpc"] = "h" }, `endpoint grpc "h": must be host:port`},
		{"no host", func(i *Instance) { i.Endpoints["grpc"] = ":9000" }, "must name a host"},
		{"space in host", func(i *Instance) { i.Endpoints["grpc"] = "a b:1" }, "host must not contain spaces"},
		{"port 0", func(i *Instance) { i.Endpoints["grpc"] = "h:0" }, "port must be a number from 1 to 65535"},
		{"port too large", func(i *Instance) { i.Endpoints["grpc"] = "h:65536" }, "port must be a number"},
		{"signed port", func(i *Instance) { i.Endpoints["grpc"] = "h:+80" }, "port must be a number"},
		{"port name", func(i *Instance) { i.Endpoints["grpc"] = "h:http" }, "port must be a number"},
		{"weight", func(i *Instance) { i.Weight = -1 }, "weight -1: must not be negative"},
		{"state", func(i *Instance) { i.State = "UP" }, `state "UP": must be "up" or "draining"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inst := valid()
			tt.change(&inst)
			err := inst.Validate()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("Validate = %v, want none", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("Validate = %v, want %q", err, tt.want)
			}
		})
	}
	bad := Instance{Weight: -1, State: "x"}
	if got := strings.Count(bad.Validate().Error(), "\n"); got != 4 {
		t.Errorf("Validate joins %d errors, want all 5:\n%v", got+1, bad.Validate())
	}
}

func TestEncodeNames(t *testing.T) {
	inst := valid()
	inst.Version, inst.Zone = "1.2.3", "a"
	inst.Metadata = map[string]string{"k": "v"}
	inst.Started = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	got, err := Encode(inst)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"o-1","service":"orders","version":"1.2.3","zone":"a","endpoints":{"grpc":"10.0.0.1:9000"},` +
		`"weight":100,"metadata":{"k":"v"},"started":"2026-01-02T03:04:05.000000006Z","state":"up"}`
	if string(got) != want {
		t.Errorf("Encode = %s\nwant     %s", got, want)
	}
	back, err := Decode("orders", "o-1", got)
	if err != nil || !back.Equal(inst.withDefaults()) {
		t.Errorf("Decode = %+v, %v; want what was encoded", back, err)
	}
}

func TestDecode(t *testing.T) {
	tests := []struct {
		name, value, want string // "" for good
	}{
		{"least", `{"endpoints":{"grpc":"h:1"}}`, ""},
		{"null", `null`, "endpoints"},
		{"no JSON", `up`, "decode instance"},
		{"no object", `[]`, "decode instance"},
		{"trailing data", `{"endpoints":{"grpc":"h:1"}} x`, "decode instance"},
		{"other service", `{"service":"billing","endpoints":{"grpc":"h:1"}}`, `service "billing": must be "orders", as in its key`},
		{"other id", `{"id":"o-2","endpoints":{"grpc":"h:1"}}`, `id "o-2": must be "o-1", as in its key`},
		{"wrong type", `{"weight":"10","endpoints":{"grpc":"h:1"}}`, "read field weight"},
		{"not valid", `{"endpoints":{"grpc":"h"}}`, "must be host:port"},
		{"names are exact", `{"Endpoints":{"grpc":"h:1"}}`, "endpoints: must have at least one"},
		{"too large", `{"endpoints":{"grpc":"h:1"},"x":"` + strings.Repeat("x", MaxValueSize) + `"}`, "must not exceed 65536 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inst, err := Decode("orders", "o-1", []byte(tt.value))
			switch {
			case tt.want == "" && (err != nil || inst.ID != "o-1" || inst.Service != "orders" || inst.Weight != DefaultWeight || inst.State != Up):
				t.Errorf("Decode = %+v, %v; want the key's names and the defaults", inst, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("Decode = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	inst := valid()
	inst.Metadata = map[string]string{"k": strings.Repeat("x", MaxValueSize)}
	if _, err := Encode(inst); err == nil || !strings.Contains(err.Error(), "shorten its metadata") {
		t.Errorf("Encode of a large instance = %v, want the limit", err)
	}
	if _, err := Encode(Instance{}); err == nil {
		t.Error("Encode of an invalid instance returned no error")
	}
}

func TestCloneAndEqual(t *testing.T) {
	var inst Instance
	if err := json.Unmarshal([]byte(`{"id":"a","endpoints":{"grpc":"h:1"},"metadata":{"k":"v"},"new":[1]}`), &inst); err != nil {
		t.Fatal(err)
	}
	c := inst.Clone()
	if !c.Equal(inst) {
		t.Fatalf("clone %+v differs from %+v", c, inst)
	}
	for name, change := range map[string]func(*Instance){
		"endpoints": func(i *Instance) { i.Endpoints["grpc"] = "h:2" },
		"metadata":  func(i *Instance) { i.Metadata["k"] = "w" },
		"extra":     func(i *Instance) { i.extra["new"][1] = '2' },
		"started":   func(i *Instance) { i.Started = time.Now() },
	} {
		c := inst.Clone()
		change(&c)
		if c.Equal(inst) {
			t.Errorf("a changed clone is equal, or shares its %s", name)
		}
	}
	if !(Instance{}).Clone().Equal(Instance{}) {
		t.Error("the clone of a zero instance is not equal")
	}
}

// What is decoded the short way is what is decoded the long way.
func TestShortWay(t *testing.T) {
	tests := []struct {
		text  string
		short bool
	}{
		{`{"id":"a","service":"s","version":"v","zone":"z","endpoints":{"grpc":"h:1"},"weight":7,"metadata":{"id":"x","y":"{\"[,"},"started":"2026-01-02T03:04:05Z","state":"draining"}`, true},
		{` { "weight" : null , "id" : "a\\" } `, true},
		{`{}`, true},
		{`{"id":"a","shard":1}`, false},
		{`{"ID":"a"}`, false},
		{`{"\u0069d":"a"}`, false},
		{`{"id":"a","id":"b"}`, false},
		{`{"metadata":{"a":"b"},"x":[{"id":"c"}]}`, false},
	}
	for _, tt := range tests {
		if got := onlyKnown([]byte(tt.text)); got != tt.short {
			t.Errorf("onlyKnown(%s) = %v", tt.text, got)
		}
		var short, long Instance
		if err := short.UnmarshalJSON([]byte(tt.text)); err != nil {
			t.Errorf("%s: %v", tt.text, err)
		}
		// A field that nobody knows forces the long way.
		longer := strings.Replace(tt.text, "{", `{"other":0,`, 1)
		longer = strings.Replace(longer, ",}", "}", 1)
		if err := long.UnmarshalJSON([]byte(longer)); err != nil {
			t.Errorf("%s: %v", longer, err)
		}
		delete(long.extra, "other")
		if !short.Equal(long) {
			t.Errorf("%s:\nshort %+v\nlong  %+v", tt.text, short, long)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"id":"o-1","service":"orders","endpoints":{"grpc":"10.0.0.1:9000"},"weight":100,"state":"up"}`,
		`{"endpoints":{"grpc":"[::1]:1"},"started":"2026-01-02T03:04:05.6+07:00","metadata":{"":""}}`,
		`{"endpoints":{"grpc":"h:1"},"shard":{"b":1,"a":[null,"\u2028<>"]},"ID":1e400}`,
		`{"endpoints":{"grpc":"h:1"},"x":1,"x":2}`,
		`null`, `{}`, `[`, "\xff",
	} {
		f.Add("orders", "o-1", []byte(s))
	}
	f.Fuzz(func(t *testing.T, service, id string, data []byte) {
		inst, err := Decode(service, id, data)
		if err != nil {
			return
		}
		if inst.Service != service || inst.ID != id {
			t.Fatalf("Decode(%q, %q) = %q, %q", service, id, inst.Service, inst.ID)
		}
		if err := inst.Validate(); err != nil {
			t.Fatalf("Decode accepted what is not valid: %v", err)
		}
		again, err := Encode(inst)
		if err != nil {
			// Escaping may make a value of nearly the limit too large.
			if len(data) < MaxValueSize/8 {
				t.Fatalf("Encode after Decode: %v", err)
			}
			return
		}
		back, err := Decode(service, id, again)
		if err != nil {
			t.Fatalf("Decode after Encode: %v", err)
		}
		third, err := Encode(back)
		if err != nil || string(third) != string(again) {
			t.Fatalf("encoded %s, then %s, %v", again, third, err)
		}
		if len(back.extra) != len(inst.extra) {
			t.Fatalf("unknown fields: %d, then %d", len(inst.extra), len(back.extra))
		}
	})
}
