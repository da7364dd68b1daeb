package registry

import "time"

// Event is something that a person who runs the service may want to know. It
// is one of [AnnouncementChanged], [WatchFailed], [WatchRecovered] and
// [EntrySkipped]. Events are about changes: whatever lasts is told once.
type Event interface {
	event()
}

// AnnouncementChanged says that an announcement got another phase, or that its
// attempts began to fail or to succeed.
type AnnouncementChanged struct {
	Service string
	ID      string
	// From and To are the same where only Err changed.
	From Phase
	To   Phase
	// Err is why the last attempt failed or the entry was lost; nil if all is
	// well.
	Err error
}

// WatchFailed says that the list of a service is no longer kept up to date.
// The last good list stays in use.
type WatchFailed struct {
	Service string
	Err     error
	// Confirmed is when the list was last known to be right; zero if there
	// never was one.
	Confirmed time.Time
}

// WatchRecovered says that the list of a service is up to date again.
type WatchRecovered struct {
	Service string
	// Instances is the number of instances in the new list.
	Instances int
	// Outage is the time since the watch failed.
	Outage time.Duration
}

// EntrySkipped says that the backend has an entry that is not an instance. It
// is told once, and again if the entry's fault becomes another one.
type EntrySkipped struct {
	Service string
	Key     string
	Err     error
}

func (AnnouncementChanged) event() {}
func (WatchFailed) event()         {}
func (WatchRecovered) event()      {}
func (EntrySkipped) event()        {}
