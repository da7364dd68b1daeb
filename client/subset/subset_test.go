package subset

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func addresses(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("10.%d.%d.%d:9000", 40+i/5000, i/50%100, 3+5*(i%50))
	}
	return list
}

func names(instances []string, picked []int) []string {
	var out []string
	for _, i := range picked {
		out = append(out, instances[i])
	}
	slices.Sort(out)
	return out
}

// entered counts what is in b but not in a; both are sorted.
func entered(a, b []string) int {
	n := 0
	for _, x := range b {
		if _, ok := slices.BinarySearch(a, x); !ok {
			n++
		}
	}
	return n
}

func TestPick(t *testing.T) {
	for _, tt := range []struct{ n, size, want int }{
		{0, 20, 0}, {5, 0, 0}, {5, -1, 0}, {5, 20, 5}, {20, 20, 20}, {200, 20, 20},
	} {
		picked := Pick("web-3", addresses(tt.n), tt.size)
		if len(picked) != tt.want {
			t.Errorf("%d of %d: %d were picked, want %d", tt.size, tt.n, len(picked), tt.want)
		}
		if sorted := slices.Sorted(slices.Values(picked)); len(slices.Compact(sorted)) != len(picked) {
			t.Errorf("%d of %d: one was picked twice: %v", tt.size, tt.n, picked)
		}
	}
}

// TestPickIsFixed: all releases must choose alike, or an update of the clients
// makes all connections anew.
func TestPickIsFixed(t *testing.T) {
	for client, want := range map[string]string{
		"orders/web-17":     "[29 15 56 171 28]",
		"orders/web-x7kq":   "[165 135 129 151 116]",
		"":                  "[45 193 66 48 41]",
		"x1234567890123456": "[104 105 152 48 170]",
	} {
		if got := fmt.Sprint(Pick(client, addresses(200), 5)); got != want {
			t.Errorf("%q has %s, want %s", client, got, want)
		}
	}
}

func TestPickDependsOnNeitherOrderNorSize(t *testing.T) {
	list := addresses(120)
	mixed := slices.Clone(list)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	for _, client := range []string{"web-7", "web-abc", ""} {
		a, b := Pick(client, list, 20), Pick(client, mixed, 20)
		for k := range a {
			if list[a[k]] != mixed[b[k]] {
				t.Fatalf("%q: %s is in place %d of one order, %s of the other", client, list[a[k]], k, mixed[b[k]])
			}
		}
		if short := Pick(client, list, 7); !slices.Equal(short, a[:7]) {
			t.Errorf("%q: %v is not the beginning of %v", client, short, a)
		}
	}
}

// TestNumberedClientsShareOut: sixteen numbers in a row cover what sixteen
// strangers would not, and stand apart from the next sixteen.
func TestNumberedClientsShareOut(t *testing.T) {
	list := addresses(160)
	counts := make([]int, len(list))
	for i := range 16 {
		for _, k := range Pick(fmt.Sprint("web-", 32+i), list, 20) {
			counts[k]++
		}
	}
	slices.Sort(counts)
	// Strangers would leave 18 of 160 out, and give somebody six.
	if counts[0] < 1 || counts[len(counts)-1] > 4 {
		t.Errorf("of sixteen clients some instance has %d, some %d, want 1 to 4", counts[0], counts[len(counts)-1])
	}
	if slices.Equal(Pick("web-15", list, 20), Pick("web-31", list, 20)) {
		t.Error("two groups have drawn the same weights")
	}
	if !slices.Equal(Pick("web-7", list, 20), Pick("web-007", list, 20)) {
		t.Error("zeros before a number make another one of it")
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		c       Config
		n, want int
		valid   bool
	}{
		{Config{}, 50, 50, true},
		{Config{}, 51, 20, true},
		{Config{}, 0, 0, true},
		{Config{Size: -1}, 5000, 5000, true},
		{Config{Size: 30}, 51, 30, true},
		{Config{Size: 80}, 60, 60, true},
		{Config{Size: 10, Above: 10}, 11, 10, true},
		{Config{Size: 10, Above: 10}, 10, 10, true},
		{Config{Size: 9}, 100, 20, false},
		{Config{Above: -1}, 100, 20, false},
	} {
		if got := tt.c.Of(tt.n); got != tt.want || (tt.c.Validate() == nil) != tt.valid {
			t.Errorf("%+v of %d is %d (%v), want %d", tt.c, tt.n, got, tt.c.Validate(), tt.want)
		}
	}
}

// fleet is 2000 clients with IDs as they are given in practice.
type fleet struct {
	name string
	id   func(i int, rng *rand.Rand) string
	off  float64 // how far an instance may be off the mean
}

func fleets() []fleet {
	// What nobody can do anything about: the IDs tell the clients nothing of one
	// another, and the farthest of 200 instances is some three standard deviations
	// off the mean.
	const strangers = 0.25
	const letters = "bcdfghjklmnpqrstvwxz2456789" // of Kubernetes' suffixes
	pod := func(n int, rng *rand.Rand) string {
		var b strings.Builder
		for range n {
			b.WriteByte(letters[rng.IntN(len(letters))])
		}
		return b.String()
	}
	return []fleet{
		{"numbered hosts", func(i int, _ *rand.Rand) string { return fmt.Sprintf("orders:9000//web-%04d", i) }, 0.2},
		{"addresses in a row", func(i int, _ *rand.Rand) string { return fmt.Sprintf("orders:9000//10.8.%d.%d", i/250, 2+i%250) }, 0.2},
		{"ten services of 200", func(i int, _ *rand.Rand) string { return fmt.Sprintf("caller-%c:9000//node-%d", 'a'+i%10, i/10) }, 0.2},
		{"random pod names", func(_ int, rng *rand.Rand) string { return "orders:9000//orders-7d9f8b6c4-" + pod(5, rng) }, strangers},
	}
}

// TestLargeFleet is the fleet that subsets are for: 2000 clients, each of which
// keeps to 20 of 200 instances.
func TestLargeFleet(t *testing.T) {
	const clients, size, mean = 2000, 20, 200
	list := addresses(200)
	for _, f := range fleets() {
		t.Run(f.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(11, 12))
			counts := make([]float64, len(list))
			ids := make([]string, clients)
			for i := range ids {
				ids[i] = f.id(i, rng)
				for _, k := range Pick(ids[i], list, size) {
					counts[k]++
				}
			}
			squares := 0.
			for _, n := range counts {
				squares += (n - mean) * (n - mean)
			}
			low, high := slices.Min(counts)/mean-1, slices.Max(counts)/mean-1
			t.Logf("connections of an instance: %+.1f %% to %+.1f %% of the mean, standard deviation %.1f %%",
				100*low, 100*high, 100*math.Sqrt(squares/float64(len(list)))/mean)
			if low < -f.off || high > f.off {
				t.Errorf("an instance is more than %.0f %% off the mean", 100*f.off)
			}

			without := list[1:]
			lost, most := 0, 0
			for _, id := range ids {
				before, after := names(list, Pick(id, list, size)), names(without, Pick(id, without, size))
				n := entered(before, after)
				lost += n
				most = max(most, n, entered(after, before)) // the other way round it comes
				if n == 1 != slices.Contains(before, list[0]) {
					t.Fatalf("%s: %d entries change, although the instance was not there", id, n)
				}
			}
			t.Logf("one instance goes or comes: %d of %d clients change, by at most %d", lost, clients, most)
			if most > 1 {
				t.Errorf("a client changes %d entries", most)
			}
		})
	}
}

func FuzzPick(f *testing.F) {
	f.Add("web-17", uint16(60), uint8(20), uint16(3))
	f.Add("", uint16(1), uint8(1), uint16(0))
	f.Add("99999999999999999999", uint16(300), uint8(0), uint16(9))
	f.Fuzz(func(t *testing.T, client string, n uint16, size uint8, gone uint16) {
		list := addresses(int(n % 500))
		picked := Pick(client, list, int(size))
		if len(picked) != min(int(size), len(list)) {
			t.Fatalf("%d of %d, want %d", len(picked), len(list), size)
		}
		if len(list) == 0 {
			return
		}
		without := slices.Clone(list)
		without = slices.Delete(without, int(gone)%len(list), int(gone)%len(list)+1)
		before, after := names(list, picked), names(without, Pick(client, without, int(size)))
		if n := entered(before, after); n > 1 {
			t.Fatalf("%d entries change when one instance goes", n)
		}
		if n := entered(after, before); n > 1 {
			t.Fatalf("%d entries change when one instance comes", n)
		}
	})
}
