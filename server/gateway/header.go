package gateway

import (
	"net/http"
	"strings"
)

// fromHeader names the metadata that a header of the request becomes. The old
// prefix of grpc-gateway is taken off where a client still sends it.
func fromHeader(key string) (string, bool) {
	key = strings.ToLower(key)
	key = strings.TrimPrefix(key, "grpc-metadata-")
	// grpc-gateway passes Authorization on by itself.
	if key == "authorization" || key != "user-agent" && reserved(key) {
		return "", false
	}
	return key, true
}

// toHeader names the header of the response that the handler's metadata becomes.
// Bytes are left to binaryHeaders, which encodes them.
func toHeader(key string) (string, bool) {
	if reserved(key) || strings.HasSuffix(key, "-bin") {
		return "", false
	}
	return http.CanonicalHeaderKey(key), true
}

// reserved reports headers that belong to HTTP, to the connection or to the
// encoding of gRPC, not to the call.
func reserved(key string) bool {
	switch key {
	case "accept", "accept-charset", "accept-encoding", "accept-ranges", "connection", "content-encoding", "content-length",
		"content-type", "date", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
		"grpc-encoding", "grpc-accept-encoding", "grpc-message", "grpc-message-type", "grpc-status", "grpc-status-details-bin",
		"grpc-timeout":
		return true
	}
	return strings.HasPrefix(key, ":") || strings.HasPrefix(key, "proxy-")
}
