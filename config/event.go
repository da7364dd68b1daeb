package config

// Event is something that [Config.Follow] noticed. The set is closed.
type Event interface{ event() }

// Applied says that what was given has changed and is in use, but for keys that
// need a restart.
type Applied struct {
	// Keys are the hot keys whose values are others now, sorted; empty where
	// the values are what they were.
	Keys []string
}

// Rejected says that what is given now is not usable, and that the last good
// values stay in use. It is said once for each content.
type Rejected struct {
	// Err is everything that is wrong with it.
	Err error
}

// RestartNeeded says that keys were changed which are read at the start only.
// It is said when the list changes to another one.
type RestartNeeded struct {
	// Keys are all such keys, sorted.
	Keys []string
}

func (Applied) event()       {}
func (Rejected) event()      {}
func (RestartNeeded) event() {}
