//go:build !linux

package democmd

import "syscall"

// apart is for Linux, where services can be told apart from the terminal and
// tied to the life of the demo.
func apart() *syscall.SysProcAttr { return nil }
