package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	chromium = "chromium"
	skipEnv  = "PLINTH_SKIP_BROWSER"
	patience = 30 * time.Second // for anything that the browser does
)

// tab is a tab of a browser that the test has to itself.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	troubles []string
}

// open starts a browser. It is ended with the test, which fails if a page that
// was looked at had errors.
func open(t *testing.T) *tab {
	t.Helper()
	if os.Getenv(skipEnv) != "" {
		t.Skip("skipped, because " + skipEnv + " is set")
	}
	path, err := exec.LookPath(chromium)
	if err != nil {
		t.Fatalf("these tests need a real browser: %v\n"+
			"install Debian's package: apt-get install -y --no-install-recommends chromium\n"+
			"or leave them out by setting %s=1", err, skipEnv)
	}
	home := t.TempDir()
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.Env("HOME=" + home), chromedp.UserDataDir(filepath.Join(home, "profile")),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
	}
	// Nothing that has not been asked for shall leave this machine.
	for _, flag := range []string{
		"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync",
		"disable-default-apps", "disable-extensions", "disable-dev-shm-usage", "metrics-recording-only",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, release := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	tb := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("end the browser: %v", err)
		}
		cancel()
		release()
		tb.mu.Lock()
		defer tb.mu.Unlock()
		for _, trouble := range tb.troubles {
			t.Error(trouble)
		}
	})
	// Not a timeout of the context, which is the browser's from now on.
	defer time.AfterFunc(patience, cancel).Stop()
	if err := chromedp.Listen(ctx, tb.listen); err != nil { // it starts the browser
		t.Fatalf("start the browser: %v", err)
	}
	return tb
}

// listen notes what should not happen on a page.
func (tb *tab) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		tb.troublef("a script failed: %v", e.ExceptionDetails)
	case *runtime.EventConsoleAPICalled:
		tb.troublef("a script wrote to the console: %v", e.Args)
	case *log.EventEntryAdded:
		tb.troublef("the browser complains: %s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *network.EventLoadingFailed:
		tb.troublef("a request failed: %s", e.ErrorText)
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			tb.troublef("%s was answered with %d", e.Response.URL, e.Response.Status)
		}
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, "http://127.0.0.1:") && !strings.HasPrefix(u, "data:") {
			tb.troublef("the page asks for %s", u)
		}
	case *page.EventJavascriptDialogOpening:
		tb.troublef("a script says: %s", e.Message)
	}
}

func (tb *tab) troublef(format string, args ...any) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.troubles = append(tb.troubles, fmt.Sprintf(format, args...))
}

// run does things one after the other.
func (tb *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	tb.t.Helper()
	get(tb, chromedp.Steps(steps...))
}

// get does something that has a result.
func get[T any](tb *tab, action chromedp.Action[T]) T {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		tb.t.Fatalf("drive the browser: %v", err)
	}
	return v
}

// send sends a command of the browser's protocol.
func send[P, R any](tb *tab, command cdp.Command[P, R], params P) {
	tb.t.Helper()
	get(tb, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// eval returns what an expression is on the page.
func eval[T any](tb *tab, expression string) T {
	tb.t.Helper()
	return get(tb, chromedp.Evaluate[T](expression))
}

// screen makes the window that of a device.
func (tb *tab) screen(width, height int64, scheme string) {
	tb.t.Helper()
	send(tb, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500,
	})
	send(tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

// keep puts a picture of the whole page among the test's artifacts.
func (tb *tab) keep(name string) {
	tb.t.Helper()
	png := get(tb, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(tb.t.ArtifactDir(), name+".png"), png, 0o600); err != nil {
		tb.t.Fatal(err)
	}
}
