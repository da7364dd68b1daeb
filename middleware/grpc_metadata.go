package middleware

import (
	"context"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/metadata"
)

// replyMD is the metadata of one response, used again for others: grpc copies what
// it is given.
type replyMD struct {
	metadata.MD

	values []string // what MD's values are parts of
}

var replyPool = sync.Pool{New: func() any { return &replyMD{MD: metadata.MD{}} }}

// newReplyMD is metadata with the pairs in it, the caller's to free.
func newReplyMD(replies pairs) *replyMD {
	r, _ := replyPool.Get().(*replyMD)
	r.values = slices.Grow(r.values, len(replies)/2) // never moved below
	for i := 0; i < len(replies); i += 2 {
		key := strings.ToLower(replies[i])
		if r.MD[key] != nil {
			r.MD[key] = append(r.MD[key], replies[i+1])
			continue
		}
		r.values = append(r.values, replies[i+1])
		n := len(r.values)
		r.MD[key] = r.values[n-1 : n : n]
	}
	return r
}

func (r *replyMD) free() {
	clear(r.MD)
	clear(r.values)
	r.values = r.values[:0]
	replyPool.Put(r)
}

// incoming is a call's context as grpc made it, and the metadata in it, which is
// grpc's own and must not be changed. grpc's functions copy what they return, a
// call asks several times, and most of what it asks for is not there.
type incoming struct {
	context.Context

	md   metadata.MD
	wire bool // md came over a network: its keys are in lower case
}

func (i *incoming) init(ctx context.Context) {
	i.Context = ctx
	if metadata.ValueFromIncomingContext((*lookup)(i), ""); i.md == nil {
		i.md, _ = metadata.FromIncomingContext(ctx)
	}
	_, i.wire = i.md[":authority"] // which grpc puts there, and nobody else
}

// header finds the first value of a key in any case. Where the keys of the metadata
// may be in any case too, it looks at all of them for one that is not there, as most
// of those that are asked for are.
func (i *incoming) header(key string) string {
	if i.wire {
		if v := i.md[strings.ToLower(key)]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	return firstValue(i.md, key)
}

// lookup notes the metadata that grpc looks up in it.
type lookup incoming

func (l *lookup) Value(key any) any {
	l.md, _ = l.Context.Value(key).(metadata.MD)
	return nil
}

// firstValue finds a key without regard to case: its users may have put anything
// into metadata that did not come over a network.
func firstValue(md metadata.MD, key string) string {
	v, ok := md[key]
	if !ok {
		for k, values := range md {
			if len(k) == len(key) && strings.EqualFold(k, key) {
				v = values
				break
			}
		}
	}
	if len(v) == 0 {
		return ""
	}
	return v[0]
}
