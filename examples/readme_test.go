package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	source = regexp.MustCompile(`^<!-- from (\S+) -->$`)
	fence  = "```"
)

// TestREADME holds the code in the README against the files it says it is from:
// code that no compiler has seen does not stand there.
func TestREADME(t *testing.T) {
	root := ".."
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var file, block string
	inside, found := false, 0
	for line := range strings.Lines(string(readme)) {
		trimmed := strings.TrimSpace(line)
		switch {
		case source.MatchString(trimmed):
			file = source.FindStringSubmatch(trimmed)[1]
		case !inside && trimmed == fence+"go":
			inside, block = true, ""
		case inside && trimmed == fence:
			inside = false
			found++
			code, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				t.Fatalf("code of the README without a file: %v\n%s", err, block)
			}
			if !strings.Contains(string(code), block) {
				t.Errorf("%s does not have what the README shows of it:\n%s", file, block)
			}
		case inside:
			block += line
		}
	}
	if found < 3 {
		t.Errorf("found %d blocks of code", found)
	}
}
