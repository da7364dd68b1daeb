// Package abuse sends a service what no client of good will would: garbage,
// frames that lie about their lengths, headers and bodies without end, and
// connections that come by the thousand and say nothing. It is nothing but tests.
//
// TestMalformed sends a thousand requests of each kind over real connections to an
// app with everything on, to gRPC, HTTP and the admin listener. Of each it wants a
// clear error, or a closed connection where the protocol has none, within the
// server's own limits of time; of the app that it answers good calls in between,
// that no handler and no server panics, that it holds little memory while it is
// abused and nothing afterwards, and that no goroutine is left. `go test -short`
// sends fewer.
package abuse
