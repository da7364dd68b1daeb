package auth

// Matches reports whether s is what the pattern says: "*" in it stands for any
// text, a slash and none at all included; every other character for itself.
func Matches(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0 // the last "*" and where its text began
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0: // give the last "*" one character more
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func matchesAny(patterns []string, s string) bool {
	for _, p := range patterns {
		if Matches(p, s) {
			return true
		}
	}
	return false
}
