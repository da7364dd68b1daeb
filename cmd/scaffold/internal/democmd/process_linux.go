package democmd

import "syscall"

// apart keeps a terminal's Ctrl-C from the services, which the demo ends itself,
// and ends them should the demo be killed.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
