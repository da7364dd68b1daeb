package protogen

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const head = "syntax = \"proto3\";\npackage a.v1;\noption go_package = \"example.com/a/v1;av1\";\n"

func compileOne(t *testing.T, source string) (*Request, error) {
	t.Helper()
	return Compile(t.Context(), Sources(map[string][]byte{"a.proto": []byte(source)}), []string{"a.proto"})
}

func TestDiagnostics(t *testing.T) {
	tests := []struct {
		name, source string
		want         []string // place and message, then the lines of the snippet
	}{
		{
			"unknown scalar", head + "message A {\n  strin id = 1;\n}\n",
			[]string{`a.proto:5:3: unknown type "strin"`, `     5 |   strin id = 1;`, `       |   ^^^^^ did you mean "string"?`},
		},
		{
			"tab", head + "message A {\n\tstrin id = 1;\n}\n",
			[]string{`a.proto:5:2: unknown type "strin"`, "     5 | \tstrin id = 1;", "       | \t^^^^^ did you mean \"string\"?"},
		},
		{
			"unknown message", head + "message A {\n  Itme x = 1;\n}\nmessage Item {}\n",
			[]string{`a.proto:5:3: unknown type "Itme"`, `     5 |   Itme x = 1;`, `       |   ^^^^ did you mean "Item"?`},
		},
		{
			"unknown keyword", head + "mesage A {}\n",
			[]string{"a.proto:4:1: syntax error: unexpected identifier", "     4 | mesage A {}", `       | ^^^^^^ did you mean "message"?`},
		},
		{
			"request and response", head + "service S {\n  rpc X(Q) returns (R);\n}\n",
			[]string{`a.proto:5:9: unknown type "Q"`, "     5 |   rpc X(Q) returns (R);", "       |         ^", `a.proto:5:21: unknown type "R"`, "     5 |   rpc X(Q) returns (R);", "       |                     ^"},
		},
		{
			"import", head + "import \"nope.proto\";\n",
			[]string{`a.proto:4:8: no file "nope.proto" below the module root, nor among google/protobuf, google/api, google/rpc and buf/validate`, `     4 | import "nope.proto";`, `       |        ^^^^^^^^^^^^`},
		},
		{
			"only google's files are linked in", head + "import \"etcd/api/etcdserverpb/rpc.proto\";\n",
			[]string{
				`a.proto:4:8: no file "etcd/api/etcdserverpb/rpc.proto" below the module root, nor among google/protobuf, google/api, google/rpc and buf/validate`,
				`     4 | import "etcd/api/etcdserverpb/rpc.proto";`, `       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^`,
			},
		},
		{
			"go_package", "syntax = \"proto3\";\npackage a.v1;\n",
			[]string{"a.proto:2:1: option go_package is missing", "     2 | package a.v1;", "       | ^^^^^^^^^^^^^"},
		},
		{
			"not UTF-8", head + "message \xff {}\n",
			[]string{
				"a.proto:4:9: invalid character", "     4 | message \xff {}", "       |         ^",
				"a.proto:4:9: syntax error: unexpected error", "     4 | message \xff {}", "       |         ^",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := compileOne(t, tt.source)
			wrong, ok := errors.AsType[*SyntaxError](err)
			if !ok {
				t.Fatalf("error %v, want a SyntaxError", err)
			}
			var got []string
			for _, d := range wrong.Diagnostics {
				got = append(got, d.String())
				got = append(got, d.Snippet()...)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	r, err := compileOne(t, head+"import \"google/protobuf/empty.proto\";\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Warnings) != 1 || r.Warnings[0].Line != 4 || !strings.Contains(r.Warnings[0].Message, "not used") {
		t.Errorf("warnings %v", r.Warnings)
	}
}

func TestLinkedInImports(t *testing.T) {
	r, err := compileOne(t, head+`
import "google/api/annotations.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/type.proto";
import "google/rpc/status.proto";
message A { google.protobuf.Timestamp t = 1; google.rpc.Status s = 2; google.protobuf.Type k = 3; }
service S { rpc X(A) returns (A) { option (google.api.http) = { get: "/x" }; } }
`)
	if err != nil {
		t.Fatal(err)
	}
	if !r.HasServices() {
		t.Error("the service was not seen")
	}
	files, err := r.Messages()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1 || files[0].Name != "a.pb.go" || !bytes.Contains(files[0].Content, []byte("package av1")) {
		t.Errorf("files %v", files)
	}
}

// TestRules: the rules of protovalidate can be written without buf/validate on disk, and the generated code leads to the package of the
// rules that services already have.
func TestRules(t *testing.T) {
	r, err := compileOne(t, head+`
import "buf/validate/validate.proto";
message A { string id = 1 [(buf.validate.field).string.max_len = 8]; }
`)
	if err != nil {
		t.Fatal(err)
	}
	files, err := r.Messages()
	if err != nil {
		t.Fatal(err)
	}
	const pkg = `_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"`
	if len(files) != 1 || !bytes.Contains(files[0].Content, []byte(pkg)) {
		t.Errorf("files %v, want one that imports %s", files, pkg)
	}

	_, err = compileOne(t, head+`
import "buf/validate/validate.proto";
message A { string id = 1 [(buf.validate.field).string.max_length = 8]; }
`)
	if err == nil || !strings.Contains(err.Error(), "max_length") {
		t.Errorf("a rule that there is not: %v", err)
	}
}

func TestServicesNeedNoPluginWithoutAService(t *testing.T) {
	r, err := compileOne(t, head+"message A {}\n")
	if err != nil {
		t.Fatal(err)
	}
	if r.HasServices() {
		t.Error("a file without a service is said to have one")
	}
}

// TestVersionsInHeader keeps the generators at the versions that are known to build together.
func TestVersionsInHeader(t *testing.T) {
	r, err := compileOne(t, head+"message A {}\nservice S { rpc X(A) returns (A); }\n")
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := FindPlugin(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	messages, err := r.Messages()
	if err != nil {
		t.Fatal(err)
	}
	services, err := r.Services(t.Context(), plugin)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(messages[0].Content, []byte("protoc-gen-go v1.36.")) {
		t.Errorf("header of %s:\n%.300s", messages[0].Name, messages[0].Content)
	}
	if !bytes.Contains(services[0].Content, []byte("protoc-gen-go-grpc "+PluginVersion)) {
		t.Errorf("header of %s:\n%.300s", services[0].Name, services[0].Content)
	}
}

func TestFindPluginMissing(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "go.mod"), "module example.com/x\n\ngo 1.26.0\n")
	if path, err := FindPlugin(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "no such tool") {
		t.Errorf("path %q, error %v", path, err)
	}
}

func TestModule(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "go.mod"), "module example.com/x\n")
	for _, name := range []string{"api/b/b.proto", "api/a/a.proto", "api/testdata/t.proto", "api/.hidden/h.proto", "api/other/o.proto", "api/a/README", "top.proto"} {
		writeFile(t, filepath.Join(dir, filepath.FromSlash(name)), "")
	}
	writeFile(t, filepath.Join(dir, "api", "other", "go.mod"), "module example.com/other\n")

	m, err := FindModule(filepath.Join(dir, "api", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Dir != dir || m.Path != "example.com/x" {
		t.Errorf("module %+v", m)
	}
	api, top := filepath.Join(dir, "api"), filepath.Join(dir, "top.proto")
	names, err := m.Protos([]string{top, api, filepath.Join(api, "a", "a.proto")})
	if want := []string{"api/a/a.proto", "api/b/b.proto", "top.proto"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("protos %v, %v; want %v", names, err, want)
	}
	if _, err := m.Protos([]string{filepath.Dir(dir)}); !errors.Is(err, ErrOutside) {
		t.Errorf("outside: error %v", err)
	}
	if _, err := m.Protos([]string{filepath.Join(api, "nope")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not there: error %v", err)
	}
	if _, err := m.Protos([]string{filepath.Join(api, "a", "README")}); err == nil {
		t.Error("a file that is no .proto is taken for one")
	}
	if _, err := FindModule(filepath.Dir(dir)); err != nil && !errors.Is(err, ErrNoModule) {
		t.Errorf("no module: error %v", err)
	}
}

func TestClosest(t *testing.T) {
	tests := []struct{ word, want string }{
		{"strin", "string"}, {"strign", "string"}, {"it32", "int32"}, {"string", "string"}, {"Money", ""}, {"", ""},
	}
	for _, tt := range tests {
		if got := Closest(tt.word, scalars); got != tt.want {
			t.Errorf("Closest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}

// FuzzCompile holds Compile to its promise for any source: a request, or findings whose places are in the source.
func FuzzCompile(f *testing.F) {
	f.Add([]byte(head + "message A { string id = 1; }"))
	f.Add([]byte(head + "message A {\n\tstrin id = 1;\n}"))
	f.Add([]byte("edition = \"2023\";\nmessage \xff"))
	f.Add([]byte("\t\"\\"))
	f.Fuzz(func(t *testing.T, source []byte) {
		r, err := Compile(t.Context(), Sources(map[string][]byte{"a.proto": source}), []string{"a.proto"})
		if (r == nil) == (err == nil) {
			t.Fatalf("request %v with error %v", r, err)
		}
		wrong, ok := errors.AsType[*SyntaxError](err)
		if !ok {
			return
		}
		lines := bytes.Count(source, []byte("\n")) + 1
		for _, d := range wrong.Diagnostics {
			if d.Line < 0 || d.Line > lines || (d.Line == 0) != (d.Col == 0) || strings.Contains(d.Message, "\n") {
				t.Fatalf("finding %+v in %d lines", d, lines)
			}
			d.Snippet()
		}
	})
}

// FuzzOpen holds the names of imports inside of the module.
func FuzzOpen(f *testing.F) {
	root := f.TempDir()
	if err := os.Mkdir(filepath.Join(root, "m"), 0o777); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "secret"), nil, 0o666); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"../secret", "/secret", "a/../../secret", "..", "", "./../secret", filepath.Join(root, "secret")} {
		f.Add(name)
	}
	m := Module{Dir: filepath.Join(root, "m")}
	f.Fuzz(func(t *testing.T, name string) {
		file, err := m.Open(name)
		if err != nil {
			return
		}
		defer file.Close()
		if name != "." {
			t.Fatalf("opened %q in an empty module", name)
		}
	})
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}
