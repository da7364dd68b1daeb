package auth

// Event is something that happened to the keys of an issuer: one of the types
// below.
type Event interface{ event() }

// KeysChanged says that other keys are in use, or that the source is well again.
type KeysChanged struct {
	// Issuer is the [Issuer].Name, Place the file or the URL.
	Issuer, Place string
	// Keys is how many keys there are.
	Keys int
}

// KeysFailed says that the source of an issuer's keys has begun to fail, or fails
// in another way. The end of it is a [KeysChanged].
type KeysFailed struct {
	// Issuer is the [Issuer].Name.
	Issuer string
	// Kept is how many keys stay in use; 0 = no token of the issuer is taken.
	Kept int
	// Err is why; it names the place.
	Err error
}

func (KeysChanged) event() {}
func (KeysFailed) event()  {}
