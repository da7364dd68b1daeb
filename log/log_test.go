package log_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"go.uber.org/zap"

	"plinth.internal/log"
)

func newLog(t *testing.T, cfg log.Config) (*log.Log, *bytes.Buffer) {
	t.Helper()
	out := new(bytes.Buffer)
	cfg.Output = out
	if cfg.Format == "" {
		cfg.Format = log.FormatJSON
	}
	l, err := log.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l, out
}

// lines decodes what was logged, and forgets it.
func lines(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for dec := json.NewDecoder(out); dec.More(); {
		var m map[string]any
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

type ctxKey struct{}

// ids reads "trace/span" out of a context.
func ids(ctx context.Context) (string, string) {
	s, _ := ctx.Value(ctxKey{}).(string)
	a, b, _ := strings.Cut(s, "/")
	return a, b
}

func TestLevels(t *testing.T) {
	all := []string{"debug", "info", "warn", "error"}
	for level, want := range map[string][]string{
		"debug": all, "info": all[1:], "": all[1:], "warn": all[2:], "error": all[3:], "WARN": all[2:],
	} {
		l, out := newLog(t, log.Config{Level: level})
		write := func() (got []string) {
			l.Logger().Debug("x")
			l.Slog().Info("x")
			l.Logger().Warn("x")
			l.Slog().Error("x")
			for _, line := range lines(t, out) {
				got = append(got, line["level"].(string))
			}
			return got
		}
		if got := write(); !slices.Equal(got, want) {
			t.Errorf("level %q lets %q through, want %q", level, got, want)
		}
		if l.Level() != want[0] {
			t.Errorf("level %q is %q", level, l.Level())
		}
		// The level changes for everything that was made of the logger.
		child := l.Logger().With(zap.Int("n", 1))
		if err := l.SetLevel("debug"); err != nil {
			t.Fatal(err)
		}
		child.Debug("x")
		if got := write(); len(got) != 5 || l.Level() != "debug" {
			t.Errorf("at debug %q come through", got)
		}
		if err := l.SetLevel("loud"); err == nil || err.Error() != `set log level: "loud" is none of debug, info, warn, error` {
			t.Errorf("err = %v", err)
		}
		if l.Level() != "debug" {
			t.Errorf("a bad level changed it to %q", l.Level())
		}
	}
	if _, err := log.New(log.Config{Level: "loud"}); err == nil {
		t.Error("New takes any level")
	}
}

func TestFormats(t *testing.T) {
	for _, format := range []string{log.FormatJSON, log.FormatAuto, log.FormatConsole} {
		l, out := newLog(t, log.Config{Format: format, Fields: []zap.Field{zap.String("service", "orders")}})
		l.Logger().Info("hello", zap.Duration("took", 1500*time.Millisecond), zap.Error(errors.New("no")))
		got := out.String()
		if strings.Count(got, "\n") != 1 {
			t.Errorf("%s: %q is not one line", format, got)
		}
		if format == log.FormatConsole {
			if !strings.Contains(got, "INFO\thello\t") || !strings.Contains(got, `"took": "1.5s"`) {
				t.Errorf("%s: %q", format, got)
			}
			continue
		}
		line := lines(t, out)[0]
		stamp, err := time.Parse(time.RFC3339Nano, line["time"].(string))
		if err != nil || time.Since(stamp) > time.Minute {
			t.Errorf("%s: time %v, %v", format, line["time"], err)
		}
		delete(line, "time")
		if want := map[string]any{"level": "info", "msg": "hello", "service": "orders", "took": 1.5, "error": "no"}; !maps.Equal(line, want) {
			t.Errorf("%s: %v, want %v", format, line, want)
		}
	}
	if _, err := log.New(log.Config{Format: "xml"}); err == nil || err.Error() != `build logger: format "xml" is none of json, console, auto` {
		t.Errorf("err = %v", err)
	}
}

// TestAutoFormat: a file and /dev/null are no terminals.
func TestAutoFormat(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := log.New(log.Config{Output: f})
	if err != nil {
		t.Fatal(err)
	}
	l.Logger().Info("hello")
	if b, err := os.ReadFile(f.Name()); err != nil || !json.Valid(b) || l.Format() != log.FormatJSON {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := log.New(log.Config{}); err != nil {
		t.Errorf("to standard error: %v", err)
	}
}

func TestTrace(t *testing.T) {
	for value, want := range map[string][2]any{"": {nil, nil}, "a/": {"a", nil}, "a/b": {"a", "b"}} {
		l, out := newLog(t, log.Config{IDs: ids})
		ctx := context.WithValue(t.Context(), ctxKey{}, value)
		l.Traced(ctx).Info("zap")
		l.Slog().InfoContext(ctx, "slog")
		log.From(l.Into(ctx)).Info("from")
		got := lines(t, out)
		if len(got) != 3 {
			t.Fatalf("%d lines", len(got))
		}
		for _, line := range got {
			if line["trace_id"] != want[0] || line["span_id"] != want[1] {
				t.Errorf("%q: %v", value, line)
			}
		}
	}
	l, out := newLog(t, log.Config{}) // without IDs
	l.Traced(context.WithValue(t.Context(), ctxKey{}, "a/b")).Info("x")
	if got := lines(t, out); got[0]["trace_id"] != nil {
		t.Errorf("%v", got)
	}
}

// TestFromNothing: a context without a logger has one that discards.
func TestFromNothing(t *testing.T) {
	l := log.From(t.Context())
	l.Info("nobody hears")
	if l.Core().Enabled(zap.ErrorLevel) {
		t.Error("it is enabled")
	}
}

// TestSlogHandler is slog's own suite.
func TestSlogHandler(t *testing.T) {
	l, out := newLog(t, log.Config{})
	err := slogtest.TestHandler(l.Slog().Handler(), func() []map[string]any { return lines(t, out) })
	if err != nil {
		t.Error(err)
	}
}

type valuer struct{}

func (valuer) LogValue() slog.Value { return slog.GroupValue(slog.Int("n", 1)) }

func TestSlogValues(t *testing.T) {
	l, out := newLog(t, log.Config{IDs: ids})
	ctx := context.WithValue(t.Context(), ctxKey{}, "a/b")
	s := l.Slog().With("outer", 1).WithGroup("g").With("inner", 2).WithGroup("h").WithGroup("").With()
	s.InfoContext(ctx, "x", "s", "text", "i", -1, "u", uint64(7), "f", 1.5, "b", true, "d", time.Second,
		"t", time.Unix(0, 0).UTC(), "e", errors.New("no"), "v", valuer{}, "any", []int{1}, slog.Group("", slog.Int("inline", 1)), slog.Group("empty"))
	line := lines(t, out)[0]
	delete(line, "time")
	got, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"g":{"h":{"any":[1],"b":true,"d":1,"e":"no","f":1.5,"i":-1,"inline":1,"s":"text","t":"1970-01-01T00:00:00Z","u":7,"v":{"n":1}},"inner":2},` +
		`"level":"info","msg":"x","outer":1,"span_id":"b","trace_id":"a"}`
	if string(got) != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	// Groups with nothing in them are left out, however they come about.
	l.Slog().WithGroup("g").With(slog.Group("empty")).Info("x")
	l.Slog().WithGroup("g").Info("x", slog.Group("empty"))
	for _, line := range lines(t, out) {
		if line["g"] != nil {
			t.Errorf("%v", line)
		}
	}
}

// TestSlogBranches: two loggers made of one do not mix.
func TestSlogBranches(t *testing.T) {
	l, out := newLog(t, log.Config{})
	base := l.Slog().With("a", 1).WithGroup("g")
	one, two := base.With("one", 1), base.With("two", 2)
	one.Info("x")
	two.Info("x")
	base.Info("x", "three", 3)
	got := lines(t, out)
	for i, want := range []string{"map[one:1]", "map[two:2]", "map[three:3]"} {
		if fmt.Sprint(got[i]["g"]) != want || got[i]["a"] != 1.0 {
			t.Errorf("line %d: %v", i, got[i])
		}
	}
}

func TestSlogLevels(t *testing.T) {
	l, out := newLog(t, log.Config{Level: "debug"})
	for level, want := range map[slog.Level]string{
		slog.LevelDebug - 4: "debug", slog.LevelDebug: "debug", slog.LevelInfo - 1: "debug", slog.LevelInfo: "info",
		slog.LevelInfo + 2: "info", slog.LevelWarn: "warn", slog.LevelError: "error", slog.LevelError + 4: "error",
	} {
		l.Slog().Log(t.Context(), level, "x")
		if got := lines(t, out); len(got) != 1 || got[0]["level"] != want {
			t.Errorf("%v: %v, want %s", level, got, want)
		}
	}
}

// TestConcurrent: lines come out whole, also while the level changes.
func TestConcurrent(t *testing.T) {
	l, out := newLog(t, log.Config{Level: "info"})
	var wg sync.WaitGroup
	const n = 100
	for i := range 8 {
		wg.Go(func() {
			for range n {
				if i == 0 {
					_ = l.SetLevel([]string{"debug", "info"}[n%2])
					continue
				}
				l.Logger().Info("zap", zap.Int("i", i))
				l.Slog().Info("slog", "i", i)
			}
		})
	}
	wg.Wait()
	if got := lines(t, out); len(got) != 7*2*n {
		t.Errorf("%d lines, want %d", len(got), 7*2*n)
	}
}

// TestSetFormat: loggers that were made before follow, with all of their fields,
// and so do those made of them.
func TestSetFormat(t *testing.T) {
	l, out := newLog(t, log.Config{Fields: []zap.Field{zap.String("service", "orders")}})
	given := []zap.Field{zap.Int("a", 1)}
	before := l.Logger().With(given...).Named("x")
	given[0] = zap.Int("b", 2) // is the caller's
	structured := l.Slog().With("c", 3)
	line := func(write func()) string {
		t.Helper()
		out.Reset()
		write()
		return out.String()
	}
	for _, tc := range []struct{ format, want string }{
		{log.FormatJSON, `"msg":"hi","service":"orders","a":1,"d":4}`},
		{log.FormatConsole, `hi	{"service": "orders", "a": 1, "d": 4}`},
		{log.FormatAuto, `"msg":"hi","service":"orders","a":1,"d":4}`},
		{log.FormatConsole, `hi	{"service": "orders", "a": 1, "d": 4}`},
	} {
		if err := l.SetFormat(tc.format); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := line(func() { before.With(zap.Int("d", 4)).Info("hi") }); !strings.Contains(got, tc.want) {
				t.Errorf("%s: %s, want %s in it", tc.format, got, tc.want)
			}
			if got := line(func() { before.Info("hi", zap.Int("d", 4)) }); !strings.Contains(got, tc.want) {
				t.Errorf("%s: %s, want %s in it", tc.format, got, tc.want)
			}
		}
		if got := line(func() { structured.Info("hi") }); strings.HasPrefix(got, "{") != (tc.format != log.FormatConsole) || !strings.Contains(got, "orders") {
			t.Errorf("%s: slog's line is %s", tc.format, got)
		}
	}
	if err := l.SetFormat("xml"); err == nil || err.Error() != `set log format: format "xml" is none of json, console, auto` {
		t.Error(err)
	}
	if got := line(func() { before.Info("hi") }); strings.HasPrefix(got, "{") {
		t.Errorf("a bad format has changed it: %s", got)
	}
}
