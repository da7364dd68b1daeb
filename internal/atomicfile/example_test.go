package atomicfile_test

import (
	"fmt"
	"os"
	"path/filepath"

	"plinth.internal/internal/atomicfile"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "greeting")
	if err := atomicfile.Write(path, []byte("hello")); err != nil {
		fmt.Println(err)
		return
	}
	data, err := os.ReadFile(path)
	fmt.Println(string(data), err)
	// Output: hello <nil>
}
