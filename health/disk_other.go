//go:build !linux && !darwin && !freebsd

package health

import (
	"fmt"
	"runtime"
)

func freeBytes(string) (uint64, error) {
	return 0, fmt.Errorf("health.DiskSpace does not know how on %s; use a check of your own", runtime.GOOS)
}
