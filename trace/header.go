package trace

import (
	"encoding/binary"
	"encoding/hex"

	oteltrace "go.opentelemetry.io/otel/trace"
)

// traceparentLen is the length of version 00 of
// "version-traceid-parentid-flags" (W3C Trace Context, section 3.2).
const traceparentLen = 2 + 1 + 32 + 1 + 16 + 1 + 2

// parseTraceparent reads a traceparent header. "If a higher version is
// detected, the implementation SHOULD try to parse it" as version 00 followed
// by a dash (W3C Trace Context, section 4.3).
func parseTraceparent(s string) (cfg oteltrace.SpanContextConfig, ok bool) {
	if len(s) < traceparentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return cfg, false
	}
	var version, flags [1]byte
	if !unhex(version[:], s[:2]) || version[0] == 0xff ||
		version[0] == 0 && len(s) != traceparentLen ||
		len(s) > traceparentLen && s[traceparentLen] != '-' {
		return cfg, false
	}
	if !unhex(cfg.TraceID[:], s[3:35]) || !unhex(cfg.SpanID[:], s[36:52]) || !unhex(flags[:], s[53:55]) {
		return cfg, false
	}
	if !cfg.TraceID.IsValid() || !cfg.SpanID.IsValid() {
		return cfg, false
	}
	cfg.TraceFlags = oteltrace.TraceFlags(flags[0]) & oteltrace.FlagsSampled
	return cfg, true
}

// traceIDOf is the trace ID in a traceparent that is one.
func traceIDOf(traceparent string) string { return traceparent[3:35] }

func formatTraceparent(sc oteltrace.SpanContext) string {
	var b [traceparentLen]byte
	id, span := sc.TraceID(), sc.SpanID()
	copy(b[:], "00-")
	hex.Encode(b[3:], id[:])
	b[35] = '-'
	hex.Encode(b[36:], span[:])
	copy(b[52:], "-00")
	if sc.IsSampled() {
		b[54] = '1'
	}
	return string(b[:])
}

// parseTraceID reads an x-trace-id: 32 hex digits of either case, or a UUID.
// What is neither cannot be a W3C trace ID and is passed over.
func parseTraceID(s string) (id oteltrace.TraceID, ok bool) {
	var digits [32]byte
	n := 0
	uuid := len(s) == 36
	if !uuid && len(s) != 32 {
		return id, false
	}
	for i := range len(s) {
		c := s[i]
		if uuid && (i == 8 || i == 13 || i == 18 || i == 23) {
			if c != '-' {
				return id, false
			}
			continue
		}
		if 'A' <= c && c <= 'F' {
			c += 'a' - 'A'
		}
		digits[n] = c
		n++
	}
	if _, err := hex.Decode(id[:], digits[:]); err != nil {
		return oteltrace.TraceID{}, false
	}
	return id, id.IsValid()
}

// unhex decodes lower-case hex digits only: the specification allows no others.
func unhex(dst []byte, s string) bool {
	for i := range dst {
		hi, lo := digit(s[2*i]), digit(s[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

func putUint64(b []byte, v uint64) { binary.BigEndian.PutUint64(b, v) }
