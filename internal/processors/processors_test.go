package processors

import (
	"runtime"
	"testing"
	"time"
)

func TestBusy(t *testing.T) {
	for _, tc := range []struct {
		idle, own, all float64
		scarce, taken  bool
	}{
		{0, 0, 0, false, false},    // the kernel does not tell
		{90, 5, 100, false, false}, // quiet
		{10, 20, 100, false, false},
		{5, 20, 100, true, true},
		{5, 80, 100, true, false}, // by this program itself
	} {
		got := Times{10 + tc.idle, 10 + tc.own, 100 + tc.all}.Since(Times{10, 10, 100})
		if got.Scarce() != tc.scarce || got.Taken() != tc.taken {
			t.Errorf("%+v: scarce %v, taken %v", tc, got.Scarce(), got.Taken())
		}
	}
}

func TestRead(t *testing.T) {
	before := Read()
	if runtime.GOOS == "linux" && before.All == 0 {
		t.Fatal("nothing was read")
	}
	for begun := time.Now(); time.Since(begun) < 200*time.Millisecond; { // work, so that there is something to see
	}
	got := Read().Since(before)
	if runtime.GOOS == "linux" && (got.Own <= 0 || got.Own > got.All-got.Idle+2) { // two ticks: the readings are not one moment
		t.Errorf("200 ms of work: %+v", got)
	}
}

func TestStrict(t *testing.T) {
	for value, want := range map[string]bool{"": false, "1": false, "strict": true} {
		t.Setenv(StrictEnv, value)
		if Strict() != want {
			t.Errorf("%q: %v", value, !want)
		}
	}
}
