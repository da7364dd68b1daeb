package config

// Event is something that [Config.Settle] or [Config.Follow] noticed. The set is
// closed.
type Event interface{ event() }

// Applied says that what was given has changed and is in use, but for keys that
// need a restart.
type Applied struct {
	// Keys are the hot keys whose values are others now, sorted; empty where
	// the values are what they were.
	Keys []string
	// Documents are those that were taken: the file's path, or a feed's document
	// with its revision.
	Documents []string
}

// Rejected says that what is given now is not usable, and that the last good
// values stay in use. It is said once for each content.
type Rejected struct {
	// Err is everything that is wrong with it.
	Err error
}

// FellBack says at the start that a feed's documents cannot be read or used, and
// what is in use in their place.
type FellBack struct {
	// Err is why.
	Err error
	// Documents are those that are in use as they were kept on disk, with the
	// revision and the time; empty where none was kept.
	Documents []string
}

// SnapshotRejected says that the documents kept on disk cannot be used.
type SnapshotRejected struct {
	Path string
	Err  error
}

// SnapshotFailed says that the documents in use could not be kept on disk. It is
// said once until it works again.
type SnapshotFailed struct {
	Path string
	Err  error
}

// RestartNeeded says that keys were changed which are read at the start only.
// It is said when the list changes to another one.
type RestartNeeded struct {
	// Keys are all such keys, sorted.
	Keys []string
}

func (Applied) event()          {}
func (Rejected) event()         {}
func (RestartNeeded) event()    {}
func (FellBack) event()         {}
func (SnapshotRejected) event() {}
func (SnapshotFailed) event()   {}
