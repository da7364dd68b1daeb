package trace

import (
	"strings"
	"testing"

	oteltrace "go.opentelemetry.io/otel/trace"
)

const (
	testID     = "0af7651916cd43dd8448eb211c80319c"
	testSpan   = "b7ad6b7169203331"
	testParent = "00-" + testID + "-" + testSpan + "-01"
)

func TestParseTraceparent(t *testing.T) {
	for _, tc := range []struct {
		in      string
		ok      bool
		sampled bool
	}{
		{testParent, true, true},
		{"00-" + testID + "-" + testSpan + "-00", true, false},
		{"00-" + testID + "-" + testSpan + "-03", true, true},  // flags to come
		{"00-" + testID + "-" + testSpan + "-fe", true, false}, // likewise
		{"01-" + testID + "-" + testSpan + "-01", true, true},
		{"cc-" + testID + "-" + testSpan + "-01-what-the-future-brings", true, true},
		{"cc-" + testID + "-" + testSpan + "-01.what", false, false},
		{"00-" + testID + "-" + testSpan + "-01-more", false, false},
		{"ff-" + testID + "-" + testSpan + "-01", false, false},
		{"", false, false},
		{"00", false, false},
		{testParent[:54], false, false},
		{"00-" + strings.ToUpper(testID) + "-" + testSpan + "-01", false, false},
		{"00-" + testID + "-" + strings.ToUpper(testSpan) + "-01", false, false},
		{"00-00000000000000000000000000000000-" + testSpan + "-01", false, false},
		{"00-" + testID + "-0000000000000000-01", false, false},
		{"00-" + testID + "-" + testSpan + "-0x", false, false},
		{"0x-" + testID + "-" + testSpan + "-01", false, false},
		{"00_" + testID + "-" + testSpan + "-01", false, false},
		{"00-" + testID + "_" + testSpan + "-01", false, false},
		{"00-" + testID + "-" + testSpan + "_01", false, false},
		{"00-" + testID[:31] + "g-" + testSpan + "-01", false, false},
		{" " + testParent, false, false},
	} {
		cfg, ok := parseTraceparent(tc.in)
		if ok != tc.ok || ok && (cfg.TraceID.String() != testID || cfg.SpanID.String() != testSpan || cfg.TraceFlags.IsSampled() != tc.sampled) {
			t.Errorf("%q: %+v, %v", tc.in, cfg, ok)
		}
	}
}

func TestParseTraceID(t *testing.T) {
	for in, want := range map[string]bool{
		testID: true, strings.ToUpper(testID): true,
		"0af76519-16cd-43dd-8448-eb211c80319c": true, "0AF76519-16CD-43DD-8448-EB211C80319C": true,
		"": false, testID[1:]: false, testID + "0": false, "0af7651916cd-43dd-8448-eb211c80319c-": false,
		"0af76519-16cd-43dd-8448_eb211c80319c": false, "0af76519-16cd-43dd-844-8eb211c80319c": false,
		strings.Repeat("0", 32): false, strings.Repeat("g", 32): false, strings.Repeat("-", 36): false,
	} {
		if id, ok := parseTraceID(in); ok != want || ok && id.String() != testID || !ok && id.IsValid() {
			t.Errorf("%q: %v, %v", in, id, ok)
		}
	}
}

// FuzzTraceparent: what is read is written the same, but for what a later
// version adds.
func FuzzTraceparent(f *testing.F) {
	for _, s := range []string{testParent, "cc-" + testID + "-" + testSpan + "-01-x", "", "00-", strings.Repeat("-", 55)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cfg, ok := parseTraceparent(s)
		if !ok {
			if cfg.TraceFlags != 0 {
				t.Errorf("%q is not read, and yet %+v", s, cfg)
			}
			return
		}
		sc := oteltrace.NewSpanContext(cfg)
		if !sc.IsValid() {
			t.Fatalf("%q reads as %+v", s, cfg)
		}
		written := formatTraceparent(sc)
		if written[3:52] != s[3:52] {
			t.Errorf("%q is written as %q", s, written)
		}
		if again, ok := parseTraceparent(written); !ok || again.TraceID != cfg.TraceID || again.SpanID != cfg.SpanID || again.TraceFlags != cfg.TraceFlags {
			t.Errorf("%q is written as %q and reads as %+v", s, written, again)
		}
	})
}

// FuzzTraceID: what is read is the same ID in any spelling.
func FuzzTraceID(f *testing.F) {
	for _, s := range []string{testID, strings.ToUpper(testID), "0af76519-16cd-43dd-8448-eb211c80319c", "", strings.Repeat("-", 36)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := parseTraceID(s)
		if !ok {
			if id.IsValid() {
				t.Errorf("%q is not read, and yet %v", s, id)
			}
			return
		}
		if got := id.String(); got != strings.ToLower(strings.ReplaceAll(s, "-", "")) {
			t.Errorf("%q reads as %s", s, got)
		}
	})
}
