package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// document is a YAML text that is one of the layers and can change while the
// process runs: the file, or one of a feed.
type document struct {
	source   Source // without a line and a revision
	layer    int    // a file's place among the layers
	required bool   // of a file
	absent   bool   // of a file: it was not there at the start
	feed     bool
	shared   bool // of a feed
}

// text is what a document held when it was read.
type text struct {
	data     []byte
	revision int64 // of a feed's document
	err      error
	kept     time.Time // when it was kept on disk; zero for what was just read
}

// missing reports a file that was not there.
func (t text) missing() bool { return errors.Is(t.err, os.ErrNotExist) }

// unanswered reports a document of which the feed knows nothing yet. That is no
// fault of the document, and the feed's own state tells of it.
func (t text) unanswered() bool {
	return errors.Is(t.err, ErrPending) || errors.Is(t.err, ErrUnreachable)
}

// same reports that two readings found the same.
func (t text) same(u text) bool {
	if t.err != nil || u.err != nil {
		return t.err != nil && u.err != nil && t.err.Error() == u.err.Error()
	}
	return t.revision == u.revision && t.kept.Equal(u.kept) && bytes.Equal(t.data, u.data)
}

func sameTexts(a, b []text) bool { return slices.EqualFunc(a, b, text.same) }

// readFiles reads the documents that are files.
func (c *Config) readFiles() []text {
	texts := make([]text, c.files)
	for i := range texts {
		texts[i].data, texts[i].err = os.ReadFile(c.documents[i].source.Name)
	}
	return texts
}

// readFeed are the documents of the feed as it has them.
func (c *Config) readFeed() []text {
	if c.central.Feed == nil {
		return nil
	}
	texts := make([]text, len(c.documents)-c.files)
	documents := c.central.Feed.Documents()
	for i := range texts {
		if i >= len(documents) {
			texts[i].err = errors.New("the feed does not give it any more")
			continue
		}
		d := documents[i]
		texts[i] = text{data: d.Data, revision: d.Revision, err: d.Err}
	}
	return texts
}

// parse puts the items of all documents into layers: those of files into a copy
// of ls, those of the feed into layers of their own. A file that was there at the
// start must still be there: one that is gone is more often a mistake than a wish
// for the defaults. One that came later may go again, which leads back to the start.
func (c *Config) parse(ls layers, texts, before []text) (current, central layers, err error) {
	ls = slices.Clone(ls)
	var errs []error
	for i, d := range c.documents {
		t, source := texts[i], d.source
		source.Revision = t.revision
		l := layer{shared: d.shared, feed: d.feed}
		switch {
		case t.err != nil && d.feed:
			errs = append(errs, fmt.Errorf("read configuration %s: %w", source.Name, t.err))
		case t.err != nil:
			gone := before != nil && !before[i].missing() && !d.absent
			switch optional := !d.required && !gone; {
			case t.missing() && gone:
				errs = append(errs, fmt.Errorf("read configuration: %w; put the file back", t.err))
			case !optional || !t.missing():
				errs = append(errs, fmt.Errorf("read configuration: %w", t.err))
			}
		case d.feed && len(t.data) > MaxDocument:
			errs = append(errs, tooLarge(source, len(t.data)))
		default:
			if l.items, err = parseDocument(source, t.data); err != nil {
				errs = append(errs, err)
			}
		}
		if d.feed {
			central = append(central, l)
		} else {
			ls[d.layer] = l
		}
	}
	return ls, central, errors.Join(errs...)
}

func tooLarge(source Source, size int) error {
	return fmt.Errorf("%v: size %d bytes: must not exceed %d; leave out what the file can say", source, size, MaxDocument)
}

// ParseDocument reads a YAML document and returns what it sets, sorted by key,
// with the lines as sources. It errs as a document in use would be rejected, but
// for what the keys mean. The name stands in errors.
func ParseDocument(name string, data []byte) ([]Entry, error) {
	source := Source{Kind: KindFile, Name: name}
	if len(data) > MaxDocument {
		return nil, tooLarge(source, len(data))
	}
	items, err := parseDocument(source, data)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(items))
	for key, it := range items {
		value := it.value
		if it.isList {
			value = "[" + value + "]"
		}
		if !it.isNull {
			entries = append(entries, Entry{Key: key, Value: value, Source: it.source})
		}
	}
	slices.SortFunc(entries, byKey)
	return entries, nil
}
