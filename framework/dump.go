package framework

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	exectrace "runtime/trace"
	"slices"
	"strings"
	"sync"
	"time"

	"plinth.internal/internal/atomicfile"
)

const (
	// dumpsOff is the value of server.drain.dump_dir for none.
	dumpsOff = "off"
	// maxDumpFiles is how many files a directory keeps; the oldest go.
	maxDumpFiles = 10
	// dumpTimeout bounds the writing of a dump: a file system that hangs must
	// not hold up the stop for longer.
	dumpTimeout = 5 * time.Second
	// recorderBytes and recorderAge bound what the flight recorder holds. It runs
	// during a drain only.
	recorderBytes = 8 << 20
	recorderAge   = time.Minute
	// staleAfter is when a file that was never finished is taken for that of a
	// process that died.
	staleAfter = time.Hour
)

// What the names of the files end in.
const (
	stacksSuffix = "-goroutines.txt"
	traceSuffix  = "-trace.out"
)

// labelGoroutine is the profiler's label with the name of a supervised goroutine,
// a job, or a step of the stop.
const labelGoroutine = "plinth_goroutine"

// labelled runs fn under its name, which dumps and profiles show, those of the
// goroutines that it starts included.
func labelled(ctx context.Context, name string, fn func(context.Context) error) (err error) {
	pprof.Do(ctx, pprof.Labels(labelGoroutine, name), func(ctx context.Context) { err = fn(ctx) })
	return err
}

// blackBox keeps what the process did when its stop took too long.
type blackBox struct {
	// Immutable.
	dir      string // "" for none
	instance string

	recording sync.Mutex                // held while the recorder is read
	recorder  *exectrace.FlightRecorder // nil while it does not run
	err       error                     // why it does not

	mu   sync.Mutex
	kept []DumpKept
}

// start starts the flight recorder, unless dumps are off. A process can have one
// only.
func (b *blackBox) start() {
	if b.dir == "" {
		return
	}
	b.recording.Lock()
	defer b.recording.Unlock()
	recorder := exectrace.NewFlightRecorder(exectrace.FlightRecorderConfig{MinAge: recorderAge, MaxBytes: recorderBytes})
	if err := recorder.Start(); err != nil {
		b.err = fmt.Errorf("no trace is kept, because the flight recorder cannot be started: %w", err)
		return
	}
	b.recorder = recorder
}

// stop ends the flight recorder.
func (b *blackBox) stop() {
	b.recording.Lock()
	defer b.recording.Unlock()
	if b.recorder != nil {
		b.recorder.Stop()
		b.recorder, b.err = nil, errors.New("no trace is kept, because the stop was over")
	}
}

// evidence is what the process does at one moment.
type evidence struct {
	at       time.Time
	reason   string
	stacks   []byte
	trace    []byte
	traceErr error
}

// capture takes the evidence without writing it anywhere; nil where dumps are
// off.
func (b *blackBox) capture(reason string) *evidence {
	if b.dir == "" {
		return nil
	}
	e := &evidence{at: time.Now(), reason: reason}
	var stacks, trace bytes.Buffer
	fmt.Fprintf(&stacks, "%s at %s\n%s\n", b.instance, stamp(e.at), reason)
	for _, part := range []struct {
		title string
		debug int
	}{
		{"Goroutines with the same stack together; the label " + labelGoroutine + " names those of the service, its jobs, and the steps of the stop", 1},
		{"Every goroutine, with its state and how long it has waited", 2},
	} {
		fmt.Fprintf(&stacks, "\n=== %s\n\n", part.title)
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, part.debug) // a buffer takes everything
	}
	e.stacks = stacks.Bytes()
	b.recording.Lock()
	defer b.recording.Unlock()
	if e.traceErr = b.err; b.recorder != nil {
		if _, err := b.recorder.WriteTo(&trace); err != nil {
			e.traceErr = fmt.Errorf("read the flight recorder: %w", err)
		}
		e.trace = trace.Bytes()
	}
	return e
}

// keep writes the evidence and says where it is.
func (b *blackBox) keep(ctx context.Context, phase string, e *evidence) DumpKept {
	kept := DumpKept{Phase: phase, Err: e.traceErr}
	var stacks, trace string
	err := bounded(ctx, dumpTimeout, func(context.Context) (err error) {
		stacks, trace, err = b.write(e)
		return err
	})
	if _, behind := errors.AsType[*overrunError](err); !behind {
		kept.Goroutines, kept.Trace = stacks, trace
	}
	if err != nil {
		kept.Err = errors.Join(kept.Err, fmt.Errorf("keep a dump in %s: %w; set server.drain.dump_dir to a directory that can be written, or to off", b.dir, err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, kept)
	return kept
}

func (b *blackBox) write(e *evidence) (stacks, trace string, err error) {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return "", "", err
	}
	if err := makeRoom(b.dir, maxDumpFiles-2, e.at); err != nil {
		return "", "", err
	}
	stem := e.at.UTC().Format("20060102T150405.000Z") + "-" + b.instance
	stacks = filepath.Join(b.dir, stem+stacksSuffix)
	if err := atomicfile.Write(stacks, e.stacks); err != nil {
		return "", "", err
	}
	if len(e.trace) == 0 {
		return stacks, "", nil
	}
	trace = filepath.Join(b.dir, stem+traceSuffix)
	if err := atomicfile.Write(trace, e.trace); err != nil {
		return stacks, "", err
	}
	return stacks, trace, nil
}

// makeRoom deletes the oldest dumps of a directory until at most so many files
// are left, and what was never finished. It touches nothing else.
func makeRoom(dir string, left int, now time.Time) error {
	entries, err := os.ReadDir(dir) // sorted by name, which begins with the time
	if err != nil {
		return err
	}
	var dumps []string
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case strings.HasPrefix(name, atomicfile.Partial):
			if info, err := entry.Info(); err == nil && now.Sub(info.ModTime()) > staleAfter {
				_ = os.Remove(filepath.Join(dir, name)) // the next one tries again
			}
		case strings.HasSuffix(name, stacksSuffix), strings.HasSuffix(name, traceSuffix):
			dumps = append(dumps, name)
		}
	}
	for len(dumps) > left {
		if err := os.Remove(filepath.Join(dir, dumps[0])); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		dumps = dumps[1:]
	}
	return nil
}

// dumpDir is where dumps go, "" for nowhere: what is configured, and else a
// directory of the service's own among the temporary files.
func (a *App) dumpDir() string {
	switch dir := a.settings.Server.Drain.DumpDir; dir {
	case dumpsOff:
		return ""
	case "":
		return filepath.Join(tempDir(a.opts.environ), "plinth-"+a.name)
	default:
		return dir
	}
}

// tempDir is os.TempDir for an environment that is given.
func tempDir(environ []string) string {
	if runtime.GOOS == "windows" {
		return os.TempDir()
	}
	const name = "TMPDIR="
	at := slices.IndexFunc(environ, func(e string) bool { return strings.HasPrefix(e, name) && len(e) > len(name) })
	if at < 0 {
		return "/tmp"
	}
	return environ[at][len(name):]
}

// DumpDocument is a dump in a [LifecycleDocument].
type DumpDocument struct {
	// Phase is the phase of the stop that took too long.
	Phase string `json:"phase"`
	// Goroutines and Trace are the files, "" where there is none.
	Goroutines string `json:"goroutines"`
	Trace      string `json:"trace"`
	Error      string `json:"error"`
}

func (b *blackBox) document() []DumpDocument {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]DumpDocument, 0, len(b.kept))
	for _, k := range b.kept {
		out = append(out, DumpDocument{Phase: k.Phase, Goroutines: k.Goroutines, Trace: k.Trace, Error: text(k.Err)})
	}
	return out
}
