package middleware

// HeaderWantsTLS is in the answer of a port that speaks TLS to a request over HTTP
// without, which nobody has seen. The answer names it in Connection, so that a proxy
// does not pass it on for an answer of its own.
const HeaderWantsTLS = "plinth-wants-tls"
