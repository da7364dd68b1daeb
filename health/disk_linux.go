package health

import "syscall"

// freeBytes is the space that is left for users without privileges.
func freeBytes(path string) (uint64, error) {
	var s syscall.Statfs_t
	for {
		err := syscall.Statfs(path, &s)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			return 0, err
		}
	}
	block := s.Frsize // what the numbers are counted in, where the file system says so
	if block <= 0 {
		block = s.Bsize
	}
	return s.Bavail * uint64(block), nil
}
