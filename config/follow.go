package config

import (
	"context"
	"slices"
	"time"
)

// PollInterval is how often [Config.Follow] reads the file.
const PollInterval = 250 * time.Millisecond

// Follow reads the file every [PollInterval] and reloads, as [Config.Reload]
// does, once two readings in a row found the same new content: a file that is
// being written is left alone until it is whole, so a change is in use after two
// intervals at most. It reads by the file's name, and so follows editors that put
// another file in its place, links that are turned elsewhere, and an optional
// file that appears later. A file that is gone or cannot be read is rejected as
// a bad one is.
//
// Tell is called for what happens, from Follow's own goroutine; it may be nil.
// Follow returns when ctx ends, or at once where no file was given. Start it when
// everything is bound; a change since [Load] is noticed.
func (c *Config) Follow(ctx context.Context, tell func(Event)) {
	if len(c.documents) == 0 {
		return
	}
	if tell == nil {
		tell = func(Event) {}
	}
	ticker := time.NewTicker(PollInterval)
	defer ticker.Stop()
	last := c.state.Load().texts // as read in the poll before
	done := last                 // as taken or rejected last
	var restart []string
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		texts := c.read()
		settled := sameTexts(texts, last)
		last = texts
		if !settled || sameTexts(texts, done) {
			continue
		}
		done = texts
		change, err := c.reload(func() []text { return texts })
		if err != nil {
			tell(Rejected{err})
			continue
		}
		tell(Applied{change.Applied})
		if !slices.Equal(change.Restart, restart) && len(change.Restart) > 0 {
			tell(RestartNeeded{change.Restart})
		}
		restart = change.Restart
	}
}
