package deadline

import (
	"math"
	"testing"
	"time"
)

func TestFormat(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{-time.Second, "0n"},
		{0, "0n"},
		{1, "1n"},
		{99_999_999, "99999999n"},
		{100_000_000, "100000u"},
		{100_000_999, "100000u"},
		{3 * time.Second, "3000000u"},
		{100 * time.Second, "100000m"},
		{30 * time.Hour, "108000S"}, // 108 000 000 ms have nine digits
		{math.MaxInt64, "2562047H"},
	}
	for _, tt := range tests {
		if got := Format(tt.d); got != tt.want {
			// The unit is the finest one with room, whatever the table says.
			t.Errorf("Format(%s) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		s    string
		want time.Duration
		bad  bool
	}{
		{"0n", 0, false},
		{"1n", 1, false},
		{"20u", 20 * time.Microsecond, false},
		{"00000020m", 20 * time.Millisecond, false},
		{"3S", 3 * time.Second, false},
		{"2M", 2 * time.Minute, false},
		{"1H", time.Hour, false},
		{"99999999H", math.MaxInt64, false},
		{"", 0, true},
		{"S", 0, true},
		{"3", 0, true},
		{"3s", 0, true},
		{"-3S", 0, true},
		{"+3S", 0, true},
		{" 3S", 0, true},
		{"3 S", 0, true},
		{"123456789n", 0, true},
		{"1.5S", 0, true},
	}
	for _, tt := range tests {
		got, err := Parse(tt.s)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("Parse(%q) = %s, %v", tt.s, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "0n", "3S", "99999999H", "123456789n", "x", "-1S", "١S"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := Parse(s)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("Parse(%q) = %s", s, d)
		}
		back, err := Parse(Format(d))
		if err != nil {
			t.Fatalf("Format(%s) = %q cannot be read: %v", d, Format(d), err)
		}
		// Rounded down, by less than one part in 1.6 million: seven digits at least stay.
		if back > d || float64(d-back) > float64(d)/1e6 {
			t.Fatalf("%s travels as %q and arrives as %s", d, Format(d), back)
		}
	})
}
