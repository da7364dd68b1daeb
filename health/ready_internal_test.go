package health

import "testing"

func TestBinary(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 1 << 40: "1.0 TiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := binary(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
