package registry

import "time"

// Event is something that a person who runs the service may want to know. It
// is one of [AnnouncementChanged], [OverrideChanged], [WatchFailed],
// [WatchRecovered], [EntrySkipped], [InstancesLapsed], [InstanceDropped],
// [MassLapse], [SnapshotRejected] and [SnapshotFailed]. Events are about
// changes: whatever lasts is told once.
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

// OverrideChanged says that an operator wants something else of an announced
// instance.
type OverrideChanged struct {
	Service string
	ID      string
	// Override is what is in force now; nil if nothing is.
	Override *Override
	// Err is why the stored override cannot be followed. The one before it
	// stays in force.
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

// InstancesLapsed says that instances are no longer in the backend although
// nobody withdrew them. They are in quarantine now: see [Snapshot].
type InstancesLapsed struct {
	Service string
	// IDs are sorted.
	IDs []string
}

// InstanceDropped says that an instance has left quarantine, and is no longer
// in the list. One that came back, or that turned out to have been withdrawn,
// leaves without this event.
type InstanceDropped struct {
	Service string
	ID      string
	// Absent is how long it was not in the backend.
	Absent time.Duration
	// Err is why: what was said to [Registry.Drop], or that [QuarantineTime]
	// is over.
	Err error
}

// MassLapse says that more than 30 % of a service's instances, and more than
// one unless that was the last, lapsed within 10 seconds. That is rather a
// fault of the backend, or of the way to it, than of so many instances. It is
// told once until that is over.
type MassLapse struct {
	Service string
	// Gone is how many have lapsed so far, out of Of.
	Gone int
	Of   int
}

// SnapshotRejected says that the list kept on disk is not used.
type SnapshotRejected struct {
	Service string
	Path    string
	Err     error
}

// SnapshotFailed says that the list cannot be kept on disk. It is tried again
// with the next list, and told again once it has succeeded in between.
type SnapshotFailed struct {
	Service string
	Path    string
	Err     error
}

func (AnnouncementChanged) event() {}
func (OverrideChanged) event()     {}
func (WatchFailed) event()         {}
func (WatchRecovered) event()      {}
func (EntrySkipped) event()        {}
func (InstancesLapsed) event()     {}
func (InstanceDropped) event()     {}
func (MassLapse) event()           {}
func (SnapshotRejected) event()    {}
func (SnapshotFailed) event()      {}
