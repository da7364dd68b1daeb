package load

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of xds.data.orca.v3.OrcaLoadReport that are used here.
const (
	fieldCPU         = 1 // double cpu_utilization
	fieldQPS         = 6 // double rps_fractional
	fieldEPS         = 7 // double eps
	fieldNamed       = 8 // map<string, double> named_metrics
	fieldUtilization = 9 // double application_utilization

	fieldMapKey   = 1
	fieldMapValue = 2
)

// The named metrics of Plinth's own.
const (
	nameInFlight = "plinth.rif"
	nameLatency  = "plinth.latency" // seconds
	nameFailures = "plinth.failures"
)

const (
	// maxReport bounds what is read: a report of a foreign server can hold any
	// number of metrics.
	maxReport = 64 << 10
	// onStack is the size up to which a report is read without an allocation;
	// Plinth's own has about 110 bytes.
	onStack = 512
	// maxInFlight and maxLatency bound what is believed, so that sums of them
	// are safe.
	maxInFlight = 1 << 40
	maxLatency  = time.Hour
)

// encode writes a report, with the number of calls in flight as its last eight
// bytes, where it can be replaced; see [withInFlight].
func encode(r Report) []byte {
	b := make([]byte, 0, 128)
	b = appendDouble(b, fieldQPS, r.QPS)
	b = appendDouble(b, fieldEPS, r.EPS)
	b = appendDouble(b, fieldUtilization, r.Utilization)
	if r.Latency > 0 {
		b = appendNamed(b, nameLatency, r.Latency.Seconds())
	}
	if r.Failures >= 0 {
		b = appendNamed(b, nameFailures, r.Failures)
	}
	return appendNamed(b, nameInFlight, float64(max(r.InFlight, 0)))
}

// withInFlight is an encoded report with another number of calls in flight.
func withInFlight(encoded []byte, n int64) string {
	var buf [onStack]byte
	b := append(buf[:0], encoded...)
	binary.LittleEndian.PutUint64(b[len(b)-8:], math.Float64bits(float64(max(n, 0))))
	return string(b)
}

func appendDouble(b []byte, field protowire.Number, v float64) []byte {
	if v == 0 {
		return b // as proto3 does
	}
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), math.Float64bits(v))
}

func appendNamed(b []byte, name string, v float64) []byte {
	b = protowire.AppendTag(b, fieldNamed, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(1+1+len(name)+1+8)) // two tags and a length of one byte each
	b = protowire.AppendTag(b, fieldMapKey, protowire.BytesType)
	b = protowire.AppendString(b, name)
	b = protowire.AppendTag(b, fieldMapValue, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, math.Float64bits(v))
}

// Parse reads the binary form of an OrcaLoadReport, as [middleware.Call.Reply]
// and gRPC's metadata hold it. It reports false where it is none, or says
// nothing that is used here. Numbers that cannot be (negative, infinite) count
// as not said. It allocates nothing for reports of the usual size.
//
// [middleware.Call.Reply]: https://pkg.go.dev/plinth.internal/middleware#Call.Reply
func Parse[B string | []byte](raw B) (Report, bool) {
	if len(raw) == 0 || len(raw) > maxReport {
		return Report{InFlight: -1, Failures: -1}, false
	}
	var buf [onStack]byte
	b := buf[:]
	if len(raw) > len(b) {
		b = make([]byte, len(raw))
	}
	return parse(b[:copy(b, raw)])
}

// FromHTTP reads the report in the headers of an HTTP response.
func FromHTTP(h http.Header) (Report, bool) {
	v := h.Get(HeaderReport) //nolint:canonicalheader // the constant is gRPC's spelling; Get makes it HTTP's
	for len(v) > 0 && v[len(v)-1] == '=' {
		v = v[:len(v)-1]
	}
	if v == "" || len(v) > maxReport {
		return Report{InFlight: -1, Failures: -1}, false
	}
	b, err := base64.RawStdEncoding.DecodeString(v)
	if err != nil {
		return Report{InFlight: -1, Failures: -1}, false
	}
	return parse(b)
}

func parse(b []byte) (r Report, ok bool) {
	none := Report{InFlight: -1, Failures: -1}
	r = none
	var cpu float64
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return none, false
		}
		b = b[n:]
		switch {
		case kind == protowire.Fixed64Type:
			bits, n := protowire.ConsumeFixed64(b)
			if n < 0 {
				return none, false
			}
			b = b[n:]
			v := math.Float64frombits(bits)
			if !plausible(v) {
				continue
			}
			switch field {
			case fieldCPU:
				cpu = v
			case fieldQPS:
				r.QPS = v
			case fieldEPS:
				r.EPS = v
			case fieldUtilization:
				r.Utilization = v
			}
		case kind == protowire.BytesType && field == fieldNamed:
			entry, n := protowire.ConsumeBytes(b)
			if n < 0 || !named(&r, entry) {
				return none, false
			}
			b = b[n:]
		default:
			n := protowire.ConsumeFieldValue(field, kind, b)
			if n < 0 {
				return none, false
			}
			b = b[n:]
		}
	}
	if r.Utilization == 0 {
		r.Utilization = cpu // "application_utilization, else cpu" - A58
	}
	return r, r != none
}

// named takes in an entry of named_metrics.
func named(r *Report, b []byte) bool {
	var key []byte
	var value float64
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		switch {
		case field == fieldMapKey && kind == protowire.BytesType:
			key, n = protowire.ConsumeBytes(b)
		case field == fieldMapValue && kind == protowire.Fixed64Type:
			var bits uint64
			bits, n = protowire.ConsumeFixed64(b)
			value = math.Float64frombits(bits)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return false
		}
		b = b[n:]
	}
	if !plausible(value) {
		return true
	}
	switch string(key) {
	case nameInFlight:
		r.InFlight = int64(min(value, maxInFlight))
	case nameLatency:
		r.Latency = time.Duration(min(value, maxLatency.Seconds()) * float64(time.Second))
	case nameFailures:
		r.Failures = min(value, 1)
	}
	return true
}

// plausible reports whether v is a number that a measurement can be.
func plausible(v float64) bool { return v >= 0 && !math.IsInf(v, 1) }
