package protogen

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Diagnostic is one finding in a .proto file. Line and Col count from 1; both are 0 when only the file is known.
type Diagnostic struct {
	File      string
	Line, Col int
	Code      string // [CodeSyntax] or [CodeGoPackage]
	Message   string // without the place
	Source    string // the source line, without its end; empty when there is no line to show
	Width     int    // how many columns the finding spans, at least 1
	Suggest   string // what was probably meant; may be empty
}

// Codes of findings.
const (
	CodeSyntax    = "proto_syntax"       // the file does not compile
	CodeGoPackage = "go_package_missing" // the file does not say which Go package it becomes
)

// String returns the place and the message.
func (d Diagnostic) String() string {
	if d.Line == 0 {
		return d.File + ": " + d.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Col, d.Message)
}

// Snippet returns the source line with a caret line below it, or nothing when the line is not known.
func (d Diagnostic) Snippet() []string {
	if d.Source == "" {
		return nil
	}
	// Tabs are kept in the caret line so that it lines up whatever a terminal makes of them.
	indent := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, d.Source[:min(d.Col-1, len(d.Source))])
	caret := fmt.Sprintf("%7s| %s%s", "", indent, strings.Repeat("^", d.Width))
	if d.Suggest != "" {
		caret += " did you mean " + fmt.Sprintf("%q", d.Suggest) + "?"
	}
	return []string{fmt.Sprintf("%6d | %s", d.Line, d.Source), caret}
}

// SyntaxError is what is wrong in a set of .proto files, every finding of every file, in order of file and line.
type SyntaxError struct {
	Diagnostics []Diagnostic
}

// Error returns the places and messages, one a line.
func (e *SyntaxError) Error() string {
	lines := make([]string, len(e.Diagnostics))
	for i, d := range e.Diagnostics {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// sources reads the lines that findings point at, each file once.
type sources struct {
	open  Open
	lines map[string][]string
}

func newSources(open Open) *sources { return &sources{open: open, lines: make(map[string][]string)} }

func (s *sources) file(name string) []string {
	if lines, ok := s.lines[name]; ok {
		return lines
	}
	var lines []string
	if r, err := s.open(name); err == nil {
		if b, err := io.ReadAll(r); err == nil {
			lines = strings.Split(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n")
		}
		_ = r.Close() // only read from
	}
	s.lines[name] = lines
	return lines
}

var (
	unknownType = regexp.MustCompile(`unknown (?:type|extendee type|request type|response type) (\S+)`)
	word        = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*`)
	token       = regexp.MustCompile(`^(?:[A-Za-z_][A-Za-z0-9_.]*|"[^"]*"|[0-9]+)`)
	declared    = regexp.MustCompile(`(?m)^\s*(?:message|enum)\s+([A-Za-z_][A-Za-z0-9_]*)`)
)

func (s *sources) diagnose(found []reporter.ErrorWithPos) []Diagnostic {
	list := make([]Diagnostic, 0, len(found))
	for _, f := range found {
		pos := f.GetPosition()
		d := Diagnostic{File: pos.Filename, Line: max(pos.Line, 0), Col: max(pos.Col, 0), Code: CodeSyntax, Message: message(f), Width: 1}
		if d.Line == 0 || d.Col == 0 {
			d.Line, d.Col = 0, 0
		}
		lines := s.file(d.File)
		if d.Line > 0 && d.Line <= len(lines) {
			d.Source = lines[d.Line-1]
			// The compiler counts a tab as so many columns up to the next stop; an editor's column is one a byte.
			d.Col = byteColumn(d.Source, d.Col)
			if w := token.FindString(d.Source[min(d.Col-1, len(d.Source)):]); w != "" {
				d.Width = len(w)
			}
			d.Suggest = suggest(d, strings.Join(lines, "\n"))
		}
		list = append(list, d)
	}
	slices.SortStableFunc(list, func(a, b Diagnostic) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return slices.Compact(list)
}

// tabStop is the width that the compiler counts for a tab.
const tabStop = 8

// byteColumn turns the compiler's column (tabs expanded, one for each character) into one plus the offset in bytes.
func byteColumn(line string, col int) int {
	at := 1
	for i, r := range line {
		if at >= col {
			return i + 1
		}
		if r == '\t' {
			at += tabStop - (at-1)%tabStop
		} else {
			at++
		}
	}
	return len(line) + 1
}

// message says what is wrong in one line, without the place, which the caller adds.
func message(f reporter.ErrorWithPos) string {
	cause := f.Unwrap()
	if cause == nil {
		cause = errors.New("not a valid file")
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(cause.Error(), string(utf8.RuneError)), "\n", " ")
	if m := unknownType.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("unknown type %q", strings.TrimSuffix(m[1], ";"))
	}
	return text
}

var scalars = []string{
	"double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64", "bool", "string", "bytes",
}

var keywords = []string{
	"message", "service", "enum", "import", "package", "option", "repeated", "optional", "oneof", "reserved", "returns", "stream", "rpc", "syntax", "edition", "extend", "map",
}

func suggest(d Diagnostic, source string) string {
	wrong := word.FindString(d.Source[min(d.Col-1, len(d.Source)):])
	if wrong == "" {
		return ""
	}
	switch {
	case strings.HasPrefix(d.Message, "unknown type"):
		candidates := slices.Clone(scalars)
		for _, m := range declared.FindAllStringSubmatch(source, -1) {
			candidates = append(candidates, m[1])
		}
		return Closest(wrong, candidates)
	case strings.HasPrefix(d.Message, "syntax error"):
		if slices.Contains(keywords, wrong) {
			return ""
		}
		return Closest(wrong, keywords)
	}
	return ""
}

// Closest returns the candidate that word was probably meant to be, or "" when none is near: at most a third of the letters differ.
func Closest(word string, candidates []string) string {
	best, distance := "", max(len(word)/3, 1)+1
	for _, c := range candidates {
		if n := edits(word, c); n < distance {
			best, distance = c, n
		}
	}
	return best
}

// edits counts the letters to insert, delete, replace or swap with their neighbour to get from a to b.
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// missingGoPackage points at the package line, below which the option goes.
func (s *sources) missingGoPackage(f protoreflect.FileDescriptor) Diagnostic {
	d := Diagnostic{File: f.Path(), Code: CodeGoPackage, Message: "option go_package is missing", Width: 1}
	for i, line := range s.file(f.Path()) {
		if strings.HasPrefix(line, "package ") {
			d.Line, d.Col, d.Source, d.Width = i+1, 1, line, len(line)
		}
	}
	return d
}
