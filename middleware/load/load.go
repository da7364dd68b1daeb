// Package load tells clients how busy a server is, and hands calls back that the
// clients would rather have made elsewhere. It is the server's half of the
// balancing by cost, and of plain gRPC's weighted_round_robin, too.
//
// A [Tracker] counts the calls of a process. Its middleware attaches a report to
// responses, an OrcaLoadReport (A51) in the binary form of protobuf, and answers
// a call at once where more calls are in flight than its client allows
// ([HeaderLimit]): the bounce. [Parse] reads reports on the client.
//
// Guarantees:
//   - A bounce is decided before the handler runs, is not a failure, and is not
//     counted in what the reports say. Streams and health checks are never
//     bounced.
//   - The number of calls in flight is that of the moment the report is made;
//     everything else in it is brought up to date when a call ends, at most
//     once in 5 ms.
//   - What callers send can at most be ignored: a limit that cannot be read is
//     none.
//   - Nothing runs in the background, and no call waits for another one.
package load

import "time"

const (
	// HeaderReport is the trailer (gRPC) or header of the response (HTTP, in
	// base64) that holds a report - A51.
	HeaderReport = "endpoint-load-metrics-bin"
	// HeaderLimit is the request header that asks for a bounce: the call is not
	// to be served where as many other calls are in flight as it says, a
	// positive integer.
	HeaderLimit = "plinth-rif-max"
	// HeaderWanted is the request header that asks for a report with the
	// response, for calls without HeaderLimit. Its value is "1".
	HeaderWanted = "plinth-load"
	// HeaderBounce is the trailer (gRPC) or header of the response (HTTP) that
	// tells a bounce from other UNAVAILABLE calls. Its value is "1".
	HeaderBounce = "plinth-bounce"
)

// Report is what a server says about its load.
type Report struct {
	// InFlight is the number of calls that were in flight when the response
	// left, without the one it answers; -1 = not said.
	InFlight int64
	// Latency is the mean duration of the calls that the server served lately;
	// 0 = not said.
	Latency time.Duration
	// Failures is the share of the calls lately that the server failed, from 0
	// to 1; -1 = not said.
	Failures float64
	// QPS and EPS are the calls and the failures in a second; 0 = not said or
	// none.
	QPS, EPS float64
	// Utilization is the load by the server's capacity, and may exceed 1; 0 =
	// not said or idle. Servers that are not Plinth's may mean the CPU's.
	Utilization float64
}
