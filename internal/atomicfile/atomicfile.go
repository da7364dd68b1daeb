// Package atomicfile writes files that are there whole or not at all: whoever
// reads one meanwhile, and whoever reads it after the process was killed, finds
// what was there before or what is there now.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Partial begins the name of a file that is being written, beside the one that it
// will replace. A process that is killed leaves it behind.
const Partial = ".new-"

// Write puts data into the file, in place of what it held. Its owner alone may
// read it. When the machine loses its power the file may hold less than that:
// where this matters the reader needs a checksum, or the writer [WriteDurable].
func Write(path string, data []byte) error { return write(path, data, (*os.File).Close) }

// WriteDurable is [Write] that waits until the data has reached the disk.
func WriteDurable(path string, data []byte) error {
	return write(path, data, func(f *os.File) error { return errors.Join(f.Sync(), f.Close()) })
}

func write(path string, data []byte, finish func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), Partial+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, finish(f)); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
