package project

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/mod/module"
)

// MaxName is the longest service name: a DNS label, because the name is the host in http://<service>/path.
const MaxName = 63

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$`)

// NameError says why a string cannot name a service, and what to use instead.
type NameError struct {
	Name   string
	Reason string
	// Suggest is a name that is allowed, near the wrong one; empty when there is none.
	Suggest string
}

// Error returns the name with the reason.
func (e *NameError) Error() string {
	return fmt.Sprintf("%q cannot be a service name: %s", e.Name, e.Reason)
}

// spelling is one name as the template spells it in different places.
type spelling struct {
	kebab  string // your-service: directories, the service's name in the registry
	packed string // yourservice: proto package, file names, Go package names
	pascal string // YourService: the proto service and Go identifiers
	camel  string // yourService: Go identifiers that are not exported
}

func spell(name string) spelling {
	s := spelling{kebab: name, packed: strings.ReplaceAll(name, "-", "")}
	// protoc-gen-go raises a letter that follows a digit; spelled so here too, the proto and the Go name are one.
	upper := true
	var b strings.Builder
	for _, r := range name {
		if r == '-' {
			upper = true
			continue
		}
		if upper {
			r = unicode.ToUpper(r)
		}
		b.WriteRune(r)
		upper = r >= '0' && r <= '9'
	}
	s.pascal = b.String()
	s.camel = strings.ToLower(s.pascal[:1]) + s.pascal[1:]
	return s
}

// goDirectories are names that the go command treats specially as a directory; api/<name>/v1 could not be imported or not be found.
var goDirectories = []string{"internal", "vendor", "testdata"}

// reservedService names the central document of all services and the settings of all clients: one service's own could not be told apart.
const reservedService = "default"

// templateTypes are the messages of the template's API: a service of that name would be declared twice in one proto package.
var templateTypes = []string{"Item", "GetRequest", "GetResponse", "PutRequest", "PutResponse", "ListRequest", "ListResponse"}

// CheckName returns a [*NameError] when name cannot be a service's name: a-z, 0-9 and single -, starting with a letter, at most
// [MaxName] characters, and none of the few names with which the result would not compile or could not be configured.
func CheckName(name string) error {
	refuse := func(reason string) error {
		return &NameError{Name: name, Reason: reason, Suggest: suggestName(name)}
	}
	switch {
	case len(name) > MaxName:
		return refuse(fmt.Sprintf("it is longer than %d characters", MaxName))
	case !nameForm.MatchString(name):
		return refuse("use a-z, 0-9 and -, start with a letter")
	case slices.Contains(goDirectories, name):
		return refuse("the go command treats a directory of that name in its own way")
	case name == reservedService:
		return refuse("the configuration calls all services so, and every client")
	case slices.Contains(templateTypes, spell(name).pascal):
		return refuse("the service's API has a message of that name")
	}
	return nil
}

// suggestName makes a valid name of a wrong one: Orders_API becomes orders-api. It returns "" when nothing usable is left.
func suggestName(name string) string {
	var b strings.Builder
	lower := false // the last rune was a lower-case letter or a digit: a capital starts a new word
	for _, r := range name {
		switch {
		case r >= 'A' && r <= 'Z':
			if lower {
				b.WriteByte('-')
			}
			b.WriteRune(r + 'a' - 'A')
			lower = false
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
			lower = true
		default:
			b.WriteByte('-')
			lower = false
		}
	}
	words := strings.FieldsFunc(b.String(), func(r rune) bool { return r == '-' })
	s := strings.Join(words, "-")
	s = strings.Trim(strings.TrimLeft(s, "0123456789-"), "-")
	if len(s) > MaxName {
		s = strings.Trim(s[:MaxName], "-")
	}
	if s == name && s != "" {
		s += "-service"
	}
	if s == "" || CheckName(s) != nil {
		return ""
	}
	return s
}

// reservedFirst are first elements of import paths that belong to the standard library or to the go command: a module of that path
// could not import its own packages.
var reservedFirst = []string{
	"all", "archive", "arena", "bufio", "builtin", "bytes", "cmd", "cmp", "compress", "container", "context", "crypto", "database", "debug",
	"embed", "encoding", "errors", "expvar", "flag", "fmt", "go", "hash", "html", "image", "index", "internal", "io", "iter", "log", "main", "maps",
	"math", "mime", "net", "os", "path", "plugin", "reflect", "regexp", "runtime", "simd", "slices", "sort", "std", "strconv", "strings", "structs",
	"sync", "syscall", "testing", "text", "time", "tool", "unicode", "unique", "unsafe", "uuid", "vendor", "weak", "work",
}

// ModuleError says why a string cannot be the module path of a service.
type ModuleError struct {
	Path   string
	Reason string
}

// Error returns the path with the reason.
func (e *ModuleError) Error() string {
	return fmt.Sprintf("%q cannot be the module path: %s", e.Path, e.Reason)
}

// CheckModule returns a [*ModuleError] when path cannot be a service's module path.
func CheckModule(path string) error {
	first, _, _ := strings.Cut(path, "/")
	switch err := module.CheckImportPath(path); {
	case err != nil:
		return &ModuleError{path, "it is no import path"}
	case slices.Contains(reservedFirst, first):
		return &ModuleError{path, fmt.Sprintf("%q belongs to the standard library or the go command", first)}
	case path == FrameworkModule || strings.HasPrefix(path, FrameworkModule+"/"):
		return &ModuleError{path, "that is the framework itself"}
	}
	return nil
}

// Callee is a service that the new one calls. The zero value is none. It must have the API that `scaffold new` writes: package
// <Module>/api/<name>/v1 with a Get.
type Callee struct {
	Name   string // as in the registry
	Module string // its module path
	Dir    string // where its source is, absolute or relative to the new service, for a replace line; "" means it is fetched like any module
}

// ParseCallee reads NAME=MODULE[@DIR]. Errors are a [*NameError], a [*ModuleError] or say what form is expected.
func ParseCallee(s string) (Callee, error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok || rest == "" {
		return Callee{}, fmt.Errorf("read callee %q: want NAME=MODULE or NAME=MODULE@DIR", s)
	}
	path, dir, local := strings.Cut(rest, "@")
	if local && dir == "" {
		return Callee{}, fmt.Errorf("read callee %q: want NAME=MODULE, or a DIR behind the @", s)
	}
	c := Callee{Name: name, Module: path, Dir: dir}
	if err := CheckName(name); err != nil {
		return Callee{}, err
	}
	if err := CheckModule(path); err != nil {
		return Callee{}, err
	}
	if strings.ContainsAny(dir, "\n\r\x00") {
		return Callee{}, fmt.Errorf("read callee %q: the directory has a line break in it", s)
	}
	return c, nil
}
