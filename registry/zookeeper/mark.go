package zookeeper

import (
	"strconv"
	"strings"
	"time"
)

// markLife is how long a mark is kept: longer than anybody keeps an instance in
// quarantine, and long enough for clocks that do not agree.
const markLife = time.Hour

// mark says that an instance was withdrawn. It is the name of an empty node,
// .<milliseconds since 1970>.<instance ID>, beside the instances, whose names
// never begin with a dot.
type mark struct {
	at time.Time
	id string
}

func (m mark) String() string {
	return "." + strconv.FormatInt(m.at.UnixMilli(), 10) + "." + m.id
}

// parseMark reports whether the name is that of a mark.
func parseMark(name string) (mark, bool) {
	rest, ok := strings.CutPrefix(name, ".")
	if !ok {
		return mark{}, false
	}
	at, id, ok := strings.Cut(rest, ".")
	ms, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || id == "" {
		return mark{}, false
	}
	return mark{time.UnixMilli(ms), id}, true
}

// outlived reports whether the mark is of no use any more to anybody.
func (m mark) outlived(now time.Time) bool { return now.Sub(m.at).Abs() > markLife }
