package log_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap"

	"plinth.internal/log"
)

// withoutTime drops the one part of a line that differs each time.
type withoutTime struct{}

func (withoutTime) Write(p []byte) (int, error) {
	level, rest, _ := strings.Cut(string(p), `"time"`)
	_, rest, _ = strings.Cut(rest, ",")
	fmt.Fprint(os.Stdout, level, rest)
	return len(p), nil
}

func Example() {
	l, err := log.New(log.Config{
		Level: "info", Format: log.FormatJSON, Output: withoutTime{},
		IDs: func(context.Context) (traceID, spanID string) { return "0af76519", "" },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := l.Into(context.Background())               // what a Plinth server does for every call
	log.From(ctx).Info("paid", zap.Int("cents", 250)) // what a handler does
	l.Slog().InfoContext(ctx, "paid", "cents", 250)
	log.From(ctx).Debug("not at this level")
	// Output:
	// {"level":"info","msg":"paid","trace_id":"0af76519","cents":250}
	// {"level":"info","msg":"paid","trace_id":"0af76519","cents":250}
}
