package config

import (
	"context"
	"errors"
	"slices"
	"time"
)

// PollInterval is how often [Config.Follow] reads the file.
const PollInterval = 250 * time.Millisecond

// Settle takes over the documents of the feed for the first time. It waits until
// they were read or found out of reach, or ctx ends. Each document that could not
// be read, or that is bad, is replaced by what the snapshot has of it, or by
// nothing: so a start fails for no document of the feed.
//
// Call it when everything is bound, before [Config.Follow]. Tell is called for what
// happens; it may be nil. Without a feed it does nothing.
func (c *Config) Settle(ctx context.Context, tell func(Event)) {
	if c.central.Feed == nil {
		return
	}
	if tell == nil {
		tell = func(Event) {}
	}
	kept, err := c.readSnapshot()
	if err != nil {
		tell(SnapshotRejected{Path: c.central.Snapshot, Err: err})
	}
	texts := c.awaitFeed(ctx)
	o := c.reload(func(offered []text) { copy(offered[c.files:], texts) }, slices.Concat(make([]text, c.files), kept))
	if o.err != nil {
		e := FellBack{Err: o.err}
		for i, t := range c.state.Load().texts {
			if !t.kept.IsZero() {
				e.Documents = append(e.Documents, c.documents[i].named(t))
			}
		}
		tell(e)
	}
	if len(o.took) > 0 {
		tell(Applied{Keys: o.change.Applied, Documents: o.took})
	}
	c.writeSnapshot(tell, new(bool))
}

// awaitFeed are the feed's documents once there is an answer, or none is to be
// expected.
func (c *Config) awaitFeed(ctx context.Context) []text {
	for {
		changed := c.central.Feed.Changed()
		texts := c.readFeed()
		if !slices.ContainsFunc(texts, func(t text) bool { return errors.Is(t.err, ErrPending) }) {
			return texts
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return texts
		}
	}
}

// Follow takes over what changes while the process runs, as [Config.Reload] does.
// It reads the file every [PollInterval] and reloads once two readings in a row
// found the same new content: a file that is being written is left alone until it
// is whole, so a change is in use after two intervals at most. It reads by the
// file's name, and so follows editors that put another file in its place, links
// that are turned elsewhere, and an optional file that appears later and goes again.
// One that was there at the start and is gone, or that cannot be read, is rejected as
// a bad one is. Documents of the feed are taken as soon as it has them, and kept on
// disk once they are in use. What was rejected for something outside of the documents
// ([InvalidNow]) is tried again.
//
// Tell is called for what happens, from Follow's own goroutine; it may be nil.
// Follow returns when ctx ends, or at once where there is nothing to follow. Start
// it when everything is bound; a change since [Load] is noticed.
func (c *Config) Follow(ctx context.Context, tell func(Event)) {
	if len(c.documents) == 0 {
		return
	}
	if tell == nil {
		tell = func(Event) {}
	}
	f := follower{config: c, tell: tell}
	ticker := time.NewTicker(PollInterval)
	defer ticker.Stop()
	done := c.lastOffered()
	f.lastFiles, f.doneFiles, f.doneFeed = done[:c.files], done[:c.files], done[c.files:]
	for {
		changed := f.lookAtFeed()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.lookAtFiles()
		case <-changed:
		}
	}
}

func (c *Config) lastOffered() []text {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	return c.offered
}

// follower is one run of Follow.
type follower struct {
	config *Config
	tell   func(Event)

	lastFiles, doneFiles []text // as read in the poll before; as taken or rejected last
	doneFeed             []text
	restart              []string // as told last
	unkept               bool     // the snapshot could not be written
}

// lookAtFiles polls once: the files, and those that values name as long as they
// stand against what is given.
func (f *follower) lookAtFiles() {
	texts := f.config.readFiles()
	settled := sameTexts(texts, f.lastFiles)
	f.lastFiles = texts
	if settled && !sameTexts(texts, f.doneFiles) {
		f.doneFiles = texts
		f.reload(func(offered []text) { copy(offered, texts) })
	} else if errors.Is(f.config.Status().Err, errPassing) {
		f.reload(func([]text) {})
		f.config.writeSnapshot(f.tell, &f.unkept)
	}
}

// lookAtFeed takes what the feed has, and returns a channel that tells of more.
func (f *follower) lookAtFeed() <-chan struct{} {
	if f.config.central.Feed == nil {
		return nil
	}
	changed := f.config.central.Feed.Changed() // before reading, or a change could be missed
	texts := f.config.readFeed()
	if !sameTexts(texts, f.doneFeed) {
		f.doneFeed = texts
		f.reload(func(offered []text) { copy(offered[f.config.files:], texts) })
		f.config.writeSnapshot(f.tell, &f.unkept)
	}
	return changed
}

func (f *follower) reload(offer func(offered []text)) {
	o := f.config.reload(offer, nil)
	if o.rejected != nil {
		f.tell(Rejected{o.rejected})
	}
	if len(o.took) == 0 {
		return
	}
	f.tell(Applied{Keys: o.change.Applied, Documents: o.took})
	if !slices.Equal(o.change.Restart, f.restart) && len(o.change.Restart) > 0 {
		f.tell(RestartNeeded{o.change.Restart})
	}
	f.restart = o.change.Restart
}
