//go:build darwin || freebsd

package health

import "syscall"

// freeBytes is the space that is left for users without privileges; it can be
// below zero where only root has some left.
func freeBytes(path string) (uint64, error) {
	var s syscall.Statfs_t
	for {
		if err := syscall.Statfs(path, &s); err == nil {
			return uint64(max(int64(s.Bavail), 0)) * uint64(s.Bsize), nil
		} else if err != syscall.EINTR {
			return 0, err
		}
	}
}
