package server

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
)

// maxUnmatched is how much of a name that nobody has registered is repeated to the
// caller and in the log, in bytes. Every real one is shorter.
const maxUnmatched = 256

// directory is what is registered for gRPC: the methods of each service.
type directory map[string]map[string]bool

// newDirectory is called with the first call, when grpc takes no registrations any
// more.
func (s *Server) newDirectory() directory {
	d := directory{}
	for service, info := range s.grpc.GetServiceInfo() {
		d[service] = map[string]bool{}
		for _, m := range info.Methods {
			d[service][m.Name] = true
		}
	}
	return d
}

// nameUnmatched hands the calls of what is not registered on under one name. grpc
// has no implementation for these; a registered service may have none either.
func (s *Server) nameUnmatched(next grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if srv == nil {
			if service, method := middleware.SplitMethod(info.FullMethod); !s.directory()[service][method] {
				unmatched := *info
				unmatched.FullMethod = middleware.Unmatched
				info = &unmatched
			}
		}
		return next(srv, ss, info, handler)
	}
}

// unmatched answers calls of what is not registered, in the words of grpc, which
// would do so past all middlewares.
func (s *Server) unmatched(_ any, ss grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(ss)
	service, method := middleware.SplitMethod(full)
	if _, known := s.directory()[service]; !known {
		return status.Errorf(codes.Unimplemented, "unknown service %s", shortened(service))
	}
	return status.Errorf(codes.Unimplemented, "unknown method %s for service %s", shortened(method), service)
}

func shortened(name string) string {
	if len(name) <= maxUnmatched {
		return name
	}
	cut := maxUnmatched
	for !utf8.RuneStart(name[cut]) {
		cut--
	}
	return strings.ToValidUTF8(name[:cut], "\uFFFD") + "…"
}
