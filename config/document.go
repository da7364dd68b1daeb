package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
)

// document is a YAML text that is one of the layers and can change while the
// process runs. The file is one; another source takes part in every reload by
// being another.
type document struct {
	layer    int // its place among the layers
	name     string
	required bool
	// read gets the text as it is now. It must not wait for long: it is called
	// in every poll. An error that is os.ErrNotExist means that there is none.
	read func() ([]byte, error)
}

// text is what a document held when it was read.
type text struct {
	data []byte
	err  error
}

// missing reports a document that was not there.
func (t text) missing() bool { return errors.Is(t.err, os.ErrNotExist) }

// same reports that two readings found the same.
func (t text) same(u text) bool {
	if t.err != nil || u.err != nil {
		return t.err != nil && u.err != nil && t.err.Error() == u.err.Error()
	}
	return bytes.Equal(t.data, u.data)
}

func sameTexts(a, b []text) bool { return slices.EqualFunc(a, b, text.same) }

// read reads all documents.
func (c *Config) read() []text {
	texts := make([]text, len(c.documents))
	for i, d := range c.documents {
		texts[i].data, texts[i].err = d.read()
	}
	return texts
}

// parse puts the items of all documents into a copy of the layers. What was
// there before, if there was a before, must still be there: a file that is gone
// is more often a mistake than a wish for the defaults.
func (c *Config) parse(ls layers, texts, before []text) (layers, error) {
	ls = slices.Clone(ls)
	var errs []error
	for i, d := range c.documents {
		optional := !d.required && (before == nil || before[i].missing())
		if t := texts[i]; t.err != nil {
			ls[d.layer] = layer{}
			if !optional || !t.missing() {
				errs = append(errs, fmt.Errorf("read configuration: %w", t.err))
			}
			continue
		}
		items, err := parseDocument(d.name, texts[i].data)
		if err != nil {
			errs = append(errs, err)
		}
		ls[d.layer] = layer{items: items}
	}
	return ls, errors.Join(errs...)
}
