//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package client

import (
	"errors"
	"syscall"
)

// peerClosed reports that reading would tell of the end, or of a reset, without
// reading anything.
func peerClosed(raw syscall.RawConn) bool {
	var n int
	var err error
	ctrl := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	switch {
	case ctrl != nil: // closed here: writing tells
		return false
	case err == nil:
		return n == 0
	}
	return !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR)
}
