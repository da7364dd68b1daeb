package outlier

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		config Config
		want   string // part of the error, "" = valid
	}{
		{Config{}, ""},
		{Config{}.WithDefaults(), ""},
		{Config{Consecutive: 1, MinCalls: 1, FailureShare: 1, Worse: 1, Base: time.Second, Max: time.Second, MaxEjected: 1}, ""},
		{Config{Consecutive: -1}, "Ejection.Consecutive to -1:"},
		{Config{MinCalls: -1}, "Ejection.MinCalls to -1:"},
		{Config{FailureShare: 1.1}, "Ejection.FailureShare to 1.1:"},
		{Config{FailureShare: math.NaN()}, "Ejection.FailureShare to NaN:"},
		{Config{Worse: -0.1}, "Ejection.Worse to -0.1:"},
		{Config{Base: -1}, "Ejection.Base to -1ns:"},
		{Config{Max: -1}, "Ejection.Max to -1ns:"},
		{Config{Base: 2 * time.Second, Max: time.Second}, "Ejection.Max to 1s: must not be less than Ejection.Base, which is 2s"},
		{Config{MaxEjected: 2}, "Ejection.MaxEjected to 2:"},
	}
	for _, tt := range tests {
		err := tt.config.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error is %v, want %q", tt.config, err, tt.want)
		}
	}
}

func TestWithDefaults(t *testing.T) {
	tests := []struct {
		name      string
		config    Config
		base, max time.Duration
	}{
		{"none", Config{}, DefaultBase, DefaultMax},
		{"a long base", Config{Base: time.Hour}, time.Hour, time.Hour},
		{"a short limit", Config{Max: time.Second}, time.Second, time.Second},
		{"both", Config{Base: time.Second, Max: time.Hour}, time.Second, time.Hour},
	}
	for _, tt := range tests {
		got := tt.config.WithDefaults()
		if got.Base != tt.base || got.Max != tt.max || got.Validate() != nil {
			t.Errorf("%s: base is %s and max %s, want %s and %s", tt.name, got.Base, got.Max, tt.base, tt.max)
		}
	}
}
