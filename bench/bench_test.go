package main

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The test binary is also the program that a run starts.
func TestMain(m *testing.M) {
	if order := os.Getenv(childEnv); order != "" {
		os.Exit(child(order)) //nolint:forbidigo // this is a program then
	}
	os.Exit(m.Run()) //nolint:forbidigo // the way TestMain ends
}

// TestRun lets every contender make calls for a moment, in two processes each. The
// race detector makes the start of a process so slow that only some take part with
// it.
func TestRun(t *testing.T) {
	all := contenders()
	if raceEnabled {
		all, _ = choose(all, "plinth,plinth-3,gozero,all parts,no parts")
	}
	p := plan{
		contenders: all, cells: []cell{mainCell()}, rounds: 1,
		window: 250 * time.Millisecond, warmUp: 100 * time.Millisecond, progress: t.Output(),
	}
	r, err := p.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := mainCell()
	for _, x := range p.contenders {
		if !r.has(c, x.name) {
			t.Errorf("%s was not measured", x.name)
		}
	}
	for line := range strings.SplitSeq(r.document([]string{"-quick"}), "\n") {
		if len(line) > 160 && !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "#") {
			t.Errorf("a line of the document has %d letters: %s", len(line), line)
		}
	}
}

// TestAllocations holds what does not depend on the machine.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates as well")
	}
	some, err := choose(contenders(), "plinth,all parts")
	if err != nil {
		t.Fatal(err)
	}
	p := plan{
		contenders: some, cells: []cell{mainCell()}, rounds: 4,
		window: 300 * time.Millisecond, warmUp: 100 * time.Millisecond, progress: t.Output(),
	}
	r, err := p.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Where the machine is taken away in a window, pools run empty and calls
	// are few: the least of all rounds is what a call takes.
	least := func(name string, of func(*sample) float64) float64 {
		v := math.Inf(1)
		for _, s := range r.samples[mainCell()][name] {
			v = min(v, of(&s))
		}
		return v
	}
	allocs, parts := least(namePlinth, (*sample).allocs), least(nameAll, (*sample).allocs)
	added, bytes := allocs-least(nameBare, (*sample).allocs), least(namePlinth, (*sample).bytes)-least(nameBare, (*sample).bytes)
	t.Logf("plinth allocates %.1f times, %.1f times and %.0f bytes more than bare; its parts %.1f times", allocs, added, bytes, parts)
	if added > heldAllocs {
		t.Errorf("plinth allocates %.1f times more than bare, want at most %d", added, heldAllocs)
	}
	if bytes > heldBytes {
		t.Errorf("plinth allocates %.0f bytes more than bare, want at most %d", bytes, heldBytes)
	}
	if math.Abs(allocs-parts) > 2 {
		t.Errorf("plinth allocates %.1f times, its parts %.1f times: the bench does not put them together as the framework does", allocs, parts)
	}
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "performance.md")
	var out bytes.Buffer
	args := []string{"-rounds", "1", "-window", "50ms", "-only", "plinth", "-cell", "2x10", "-write", file, "-cpuprofile", dir, "-memprofile", dir}
	if err := command(t.Context(), args, &out); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"do not edit", "-cell 2x10", "10 B, 2 at a time", "| plinth |"} {
		if !strings.Contains(string(written), want) {
			t.Errorf("the document does not contain %q:\n%s", want, written)
		}
	}
	if out.Len() == 0 || !strings.Contains(string(written), out.String()) {
		t.Errorf("the tables that were printed are not those that were written:\n%s", out.String())
	}
	for _, name := range []string{"plinth.client.cpu.pprof", "plinth.server.allocs.pprof", "bare.server.cpu.pprof"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("no profile %s: %v", name, err)
		}
	}
}

func TestCommandRefuses(t *testing.T) {
	for _, test := range []struct {
		args string
		want string
	}{
		{"-only nobody", `choose contender "nobody"`},
		{"-cell 3", `read cell "3"`},
		{"-cell 0x1", `read cell "0x1"`},
		{"-cell 1x1x", `read cell "1x1x"`},
		{"-rounds 0", "measure 0 rounds"},
		{"-window 0s", "both must be above zero"},
	} {
		err := command(t.Context(), strings.Fields(test.args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("bench %s: %v, want %q", test.args, err, test.want)
		}
	}
}

// TestFailure makes sure that a server which goes away is not taken for a result.
func TestFailure(t *testing.T) {
	p := plan{window: 50 * time.Millisecond, progress: io.Discard}
	c, _ := find(contenders(), nameBare)
	x, err := p.open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.server.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.client.ask(request{Op: opStart, Cell: mainCell()}); err != nil {
		t.Fatal(err)
	}
	if err := wait(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	a, err := x.client.ask(request{Op: opStop})
	if err != nil {
		t.Fatal(err)
	}
	if a.Result.Fails == 0 || a.Result.First == "" {
		t.Errorf("calls to nobody: %+v, want failures and the first of them", a.Result)
	}
	if _, err := p.turn(t.Context(), x, mainCell()); err == nil {
		t.Error("a turn without a server is measured")
	}
	if err := x.client.close(); err != nil {
		t.Error(err)
	}
}

func TestHistogram(t *testing.T) {
	var h, half histogram
	for i := range 1000 {
		d := time.Duration(i+1) * time.Microsecond
		if i%2 == 0 {
			h.add(d)
		} else {
			half.add(d)
		}
	}
	h.merge(&half)
	for q, want := range map[float64]time.Duration{0: time.Microsecond, 0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: time.Millisecond} {
		if got := h.quantile(q); math.Abs(float64(got-want)) > 0.02*float64(want) {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	if got := new(histogram).quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
	for _, d := range []time.Duration{-1, 0, 1, 127, 128, 129, 255, 256, 1e6, 1e9, 60e9, math.MaxInt64} {
		var one histogram
		one.add(d)
		got, want := one.quantile(0.5), min(max(d, 0), 1<<(largest+1))
		if math.Abs(float64(got-want)) > 0.016*float64(want) {
			t.Errorf("%v is remembered as %v", d, got)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		all  []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 2}, 2}} {
		if got := median(slices.Clone(test.all)); got != test.want {
			t.Errorf("the median of %v is %v, want %v", test.all, got, test.want)
		}
	}
}

// TestCompare holds that ratios are taken within a round.
func TestCompare(t *testing.T) {
	r := newReport(&plan{cells: []cell{mainCell()}})
	at := func(calls uint64) sample { return sample{result: result{Calls: calls}, Elapsed: time.Second} }
	for _, round := range [][2]uint64{{100, 50}, {1000, 500}, {10, 5}} {
		r.add(mainCell(), nameBare, at(round[0]))
		r.add(mainCell(), namePlinth, at(round[1]))
	}
	if got := r.ratio(mainCell(), namePlinth, (*sample).rate); got != 0.5 {
		t.Errorf("the ratio is %v, want 0.5", got)
	}
	v, where, ok := targets()[0].measured(r)
	if v != 0.5 || where != mainCell() || !ok || targets()[0].met(v, 0.8) {
		t.Errorf("the target has %v at %v (%v), want 0.5 and not met", v, where, ok)
	}
}
