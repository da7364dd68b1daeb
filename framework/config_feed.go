package framework

import (
	"context"
	"errors"
	"io"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"plinth.internal/config"
)

// feedTimeout is how long a start waits for the central documents, counted from
// New.
const feedTimeout = time.Second

// The documents in the label of a metric.
const (
	documentDefault = "default"
	documentService = "service"
)

// WithConfigFeed takes the central documents from a feed in place of the registry's
// etcd: those in Consul, for example, with OpenConfig of registry/consul. The app
// follows the feed and leaves it open. Config.source must not be set beside it.
func WithConfigFeed(f config.Feed) Option {
	return optionFunc(func(o *options) { o.configFeed = f })
}

// ownFeed is a feed that the app closes.
type ownFeed interface {
	config.Feed
	io.Closer
}

// attachFeed puts the central documents above the other layers.
func (a *App) attachFeed() error {
	feed := a.opts.configFeed
	wanted, err := a.settings.feedsFromEtcd()
	switch {
	case feed != nil && a.settings.Config.Source != "":
		return &configError{errors.New("config.source is set, but the program has a source of its own; leave it out")}
	case feed != nil:
	case err != nil:
		return err
	case wanted && a.openFeed != nil:
		a.feed = a.openFeed()
		feed = a.feed
	default:
		return nil
	}
	return a.cfg.Attach(config.Central{Feed: feed, Snapshot: a.feedSnapshot(), Sections: sections()})
}

// feedSnapshot is the file for the last good documents, "" for none.
func (a *App) feedSnapshot() string {
	dir := a.snapshots
	if a.opts.configFeed != nil {
		dir = a.snapshotDir()
	}
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "config"+url.PathEscape(a.settings.Registry.Namespace), a.name+".json")
}

// sections are the first parts of the framework's own keys.
func sections() []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[settings]()) {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		names = append(names, name)
	}
	return names
}

// settleConfig takes over the central documents before anything is served.
func (a *App) settleConfig(ctx context.Context) {
	ctx, cancel := context.WithDeadline(ctx, a.started.Add(feedTimeout))
	defer cancel()
	a.cfg.Settle(ctx, func(e config.Event) { a.emit(ConfigEvent{e}) })
}

// closeFeed ends a feed of the app's own.
func (a *App) closeFeed() error {
	if a.feed == nil {
		return nil
	}
	return a.feed.Close()
}

// hasFeed reports whether there are central documents.
func (a *App) hasFeed() bool { return a.feed != nil || a.opts.configFeed != nil }

// FeedDocument is where the central documents come from, on /debug/config.
type FeedDocument struct {
	// Error is why the place cannot be reached now, "" while it can.
	Error string `json:"error"`
	// Documents are the documents, the one that wins last.
	Documents []CentralDocument `json:"documents"`
	// Ignored are the keys in the document of all services that this one does not
	// know, with their places.
	Ignored map[string]string `json:"ignored"`
}

// CentralDocument is one document in a [FeedDocument].
type CentralDocument struct {
	Name string `json:"name"`
	// Revision is the version in use, 0 for none.
	Revision int64 `json:"revision"`
	// Kept is since when the text in use has been on this machine's disk, "" where
	// it came from the place itself.
	Kept string `json:"kept"`
	// Error is why what the place holds is not in use.
	Error string `json:"error"`
}

// feedDocument is nil without central documents.
func (a *App) feedDocument(status config.Status) *FeedDocument {
	if !a.hasFeed() {
		return nil
	}
	feed := a.opts.configFeed
	if a.feed != nil {
		feed = a.feed
	}
	doc := &FeedDocument{Error: text(feed.Err()), Documents: []CentralDocument{}, Ignored: map[string]string{}}
	for _, d := range status.Documents {
		doc.Documents = append(doc.Documents, CentralDocument{Name: d.Name, Revision: d.Revision, Kept: stamp(d.Kept), Error: text(d.Err)})
	}
	for _, e := range status.Ignored {
		doc.Ignored[e.Key] = e.Source.String()
	}
	return doc
}

// measureConfig brings the gauges of the configuration up to date.
func (a *App) measureConfig() {
	status := a.cfg.Status()
	a.metrics.SetConfigValid(status.Err == nil)
	for _, d := range status.Documents {
		name := documentService
		if d.Shared {
			name = documentDefault
		}
		a.metrics.SetConfigRevision(name, d.Revision)
	}
}

// CheckDocument tells whether a central document is good as far as the framework
// knows: whether it is YAML, and whether what it says of the framework's own keys
// could be used. Unchecked are the other keys, sorted, which only the service
// itself knows. The name stands in errors.
func CheckDocument(name string, data []byte) (unchecked []string, err error) {
	cfg, err := config.Load()
	if err != nil {
		return nil, err
	}
	if _, err := config.Watch(cfg, "", defaultSettings()); err != nil {
		return nil, err
	}
	feed := fixedFeed{config.Document{Name: name, Shared: true, Data: data}}
	if err := cfg.Attach(config.Central{Feed: feed, Sections: sections()}); err != nil {
		return nil, err
	}
	cfg.Settle(context.Background(), nil)
	status := cfg.Status()
	for _, e := range status.Ignored {
		unchecked = append(unchecked, e.Key)
	}
	return slices.Compact(unchecked), status.Err
}

// fixedFeed is a feed of one document that never changes.
type fixedFeed struct{ document config.Document }

func (f fixedFeed) Documents() []config.Document { return []config.Document{f.document} }
func (f fixedFeed) Changed() <-chan struct{}     { return nil }
func (f fixedFeed) Err() error                   { return nil }
