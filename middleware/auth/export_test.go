package auth

// TryKeys parses a set of keys, looks every key up, and tells how many there are.
func TryKeys(b []byte) int {
	set, err := parseKeys(b)
	if err != nil {
		return 0
	}
	for _, k := range set.keys {
		for _, a := range Algorithms() {
			set.find(k.id, a)
		}
	}
	return len(set.keys)
}
