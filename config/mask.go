package config

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// masked stands for what must not be shown.
const masked = "***"

// urlStart is where a URL begins in a text.
var urlStart = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://`)

// Mask is a text with what may be secret in its URLs as "***": the password, or a
// user without one, which is most often a token, and the values of the query. The
// rest of the text stays. It is for values and errors that are about to be shown;
// those of this package have been through it.
func Mask(text string) string {
	starts := urlStart.FindAllStringIndex(text, -1)
	if starts == nil {
		return text
	}
	var b strings.Builder
	done := 0
	for i, s := range starts {
		if s[1] <= done {
			continue // within the URL before
		}
		end := len(text)
		if n := strings.IndexAny(text[s[1]:], " \t\r\n\"`<>"); n >= 0 {
			end = s[1] + n
		}
		for _, next := range starts[i+1:] { // in a list
			if next[0] < end && text[next[0]-1] == ',' {
				end = next[0] - 1
			}
		}
		b.WriteString(text[done:s[1]])
		b.WriteString(maskURL(text[s[1]:end]))
		done = end
	}
	b.WriteString(text[done:])
	return b.String()
}

// maskURL masks what follows the scheme of a URL.
func maskURL(rest string) string {
	var b strings.Builder
	if at := userinfoEnd(rest); at >= 0 {
		if user, _, ok := strings.Cut(rest[:at], ":"); ok {
			b.WriteString(user + ":")
		}
		b.WriteString(masked)
		rest = rest[at:]
	}
	path, query, found := strings.Cut(rest, "?")
	b.WriteString(path)
	if !found {
		return b.String()
	}
	query, fragment, hasFragment := strings.Cut(query, "#")
	for i, pair := range strings.Split(query, "&") {
		separator := "&"
		if i == 0 {
			separator = "?"
		}
		b.WriteString(separator)
		if name, _, ok := strings.Cut(pair, "="); ok {
			b.WriteString(name + "=")
		}
		if pair != "" {
			b.WriteString(masked)
		}
	}
	if hasFragment {
		b.WriteString("#" + fragment)
	}
	return b.String()
}

// userinfoEnd is the index of the @ behind a user and a password, in what follows
// the scheme of a URL; -1 for none. A password may have characters that should
// have been escaped: what stands where a port would and is none belongs to one.
func userinfoEnd(rest string) int {
	slashes := len(rest) - len(strings.TrimLeft(rest, "/")) // of dns:///host, for example
	authority := rest[slashes:]
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		authority = authority[:i]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		return slashes + i
	}
	_, port, ok := strings.Cut(authority[strings.LastIndexByte(authority, ']')+1:], ":")
	if !ok || strings.Trim(port, "0123456789") == "" {
		return -1
	}
	return strings.LastIndexByte(rest, '@')
}

// HasUserinfo reports a URL or an address with a user or a password in it, with a
// scheme or without. Settings that are shown have keys of their own for these.
func HasUserinfo(s string) bool {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	return userinfoEnd(s) >= 0
}

// maskedError is an error that somebody else has made, as it may be shown.
type maskedError struct{ error }

func (e maskedError) Error() string { return Mask(e.error.Error()) }

func (e maskedError) Unwrap() error { return e.error }

// maskError hides what may be secret in an error's URLs. The error of a URL that
// cannot be read says what is wrong with it in the words that are wrong.
func maskError(err error) error {
	if bad, ok := errors.AsType[*url.Error](err); ok && bad.Op == "parse" {
		return errors.New("is not a URL")
	}
	return maskedError{err}
}
