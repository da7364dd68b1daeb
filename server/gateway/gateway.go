// Package gateway serves the gRPC methods of this process as REST with JSON, as
// the google.api.http annotations of their protos say. It puts grpc-gateway's
// generated code in front of a connection, which may well be one to the handlers
// of the process itself.
//
// Guarantees:
//   - A request that matches a route runs through the handler that Config.Around
//     makes for its gRPC method, and never reaches another method than that one:
//     what is allowed, limited and counted by method holds over REST as well.
//   - Errors are the gRPC handler's own, details included; they are not written
//     here but returned to the handler around, which writes them as all errors
//     over HTTP. Only the error of a stream that has begun is written into the
//     response, as {"error": ...}, because there is no other place left.
//   - Headers of the request are the handler's metadata under their own names, and
//     the metadata of its answer the headers of the response; what HTTP itself
//     and connections need is left out.
//   - Fields and query parameters that a message does not know are ignored, as over
//     gRPC: a client of a newer proto can call an older server.
package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"plinth.internal/middleware"
)

// Register adds routes to a mux. Generated code has such functions, but for the
// client, which is made of the connection:
//
//	func(ctx context.Context, mux *runtime.ServeMux, conn grpc.ClientConnInterface) error {
//		return ordersv1.RegisterOrdersHandlerClient(ctx, mux, ordersv1.NewOrdersClient(conn))
//	}
type Register func(ctx context.Context, mux *runtime.ServeMux, conn grpc.ClientConnInterface) error

// Config is what a gateway is built from; all of it is required.
type Config struct {
	// Conn leads to the gRPC handlers.
	Conn grpc.ClientConnInterface
	// Around makes the HTTP handler of a method: serve with middlewares around
	// it. The method is "shop.v1.Orders/Get", or "GET /path" for a route that no
	// annotation tells of.
	Around func(method string, serve middleware.HTTPHandler) http.Handler
	// Unmatched answers requests that match no route, or none for their verb; the
	// status is 404, 405, or 400 for a path that is none.
	Unmatched func(w http.ResponseWriter, r *http.Request, status int)
}

// Unannotated is what the middlewares see as the method of routes that no annotation
// gives to a gRPC method.
const Unannotated = "gateway"

// Gateway is an http.Handler. Routes are added before it serves.
type Gateway struct {
	cfg      Config
	mux      *runtime.ServeMux
	routes   map[route]string // to the method
	handlers map[string]http.Handler
	other    http.Handler // for routes without annotation
	lookup   *route       // set while Describe looks for a route, before anything is served
}

// New builds a gateway without routes.
func New(cfg Config) *Gateway {
	g := &Gateway{cfg: cfg, routes: map[route]string{}, handlers: map[string]http.Handler{}}
	g.mux = runtime.NewServeMux(
		runtime.WithMiddlewares(g.around),
		runtime.WithIncomingHeaderMatcher(fromHeader),
		runtime.WithOutgoingHeaderMatcher(toHeader),
		runtime.WithErrorHandler(g.failed),
		runtime.WithStreamErrorHandler(streamFailed),
		runtime.WithForwardResponseOption(binaryHeaders),
		runtime.WithRoutingErrorHandler(
			func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
				g.unmatched(w, r, code)
			}),
		// A verb that a header or a form's type changes would be another method
		// than the one that was asked for.
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
	)
	g.other = cfg.Around(Unannotated, g.serve)
	return g
}

// Register has fn add its routes.
func (g *Gateway) Register(ctx context.Context, fn Register) error {
	if fn == nil {
		return errors.New("add REST routes: Gateway was given nil; give it the function that scaffold gen has made, such as ordersv1.OrdersRoutes")
	}
	if err := fn(ctx, g.mux, g.cfg.Conn); err != nil {
		return fmt.Errorf("register routes: %w", err)
	}
	return nil
}

// Describe tells the gateway of the services behind its connection, by their full
// names; it looks their annotations up among the protos that are linked in. A
// service whose proto is not there has no annotations. Two methods with the same
// route are an error, and so is a route of a service that is not among them: nobody
// would answer it.
func (g *Gateway) Describe(services []string) error {
	var errs []error
	for _, service := range services {
		for _, b := range bindings(service) {
			if other, taken := g.routes[b.route]; taken && other != b.method {
				errs = append(errs, fmt.Errorf("route %s %s: %s and %s both have it", b.verb, b.pattern, other, b.method))
				continue
			}
			g.routes[b.route] = b.method
			if g.handlers[b.method] == nil {
				g.handlers[b.method] = g.cfg.Around(b.method, g.serve)
			}
		}
	}
	return errors.Join(append(errs, g.unanswered(services)...)...)
}

// ServeHTTP answers a request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.mux.ServeHTTP(w, r) }

// call is one request that has matched a route.
type call struct {
	method string // "" for a route without annotation
	next   runtime.HandlerFunc
	params map[string]string
	err    error // the outcome
	served bool  // the gRPC handler was called
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// around is given the generated handler of each route.
func (g *Gateway) around(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		c := &call{next: next, params: params}
		handler := g.other
		if pattern, ok := runtime.HTTPPattern(r.Context()); ok {
			matched := route{r.Method, pattern.String()}
			if g.lookup != nil {
				*g.lookup = matched
				return
			}
			if method, ok := g.routes[matched]; ok {
				c.method, handler = method, g.handlers[method]
			}
		}
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
	}
}

func (g *Gateway) unmatched(w http.ResponseWriter, r *http.Request, status int) {
	if g.lookup == nil {
		g.cfg.Unmatched(w, r, status)
	}
}

// serve is what the middlewares are around.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) error {
	c := callOf(r.Context())
	if c == nil {
		return status.Error(codes.Internal, "the request has lost its route")
	}
	c.next(w, r, c.params)
	return c.err
}

// Guard puts the promise that a request reaches no other method than its own
// before a connection: a gateway is given the connection that it returns.
func Guard(conn grpc.ClientConnInterface) grpc.ClientConnInterface { return guard{conn} }

type guard struct{ conn grpc.ClientConnInterface }

func (g guard) check(ctx context.Context, method string) error {
	c := callOf(ctx)
	if c == nil {
		return nil // not called by a route
	}
	c.served = true
	if c.method != "" && "/"+c.method != method {
		return status.Errorf(codes.Internal, "the route of %s leads to %s", c.method, method)
	}
	return nil
}

func (g guard) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if err := g.check(ctx, method); err != nil {
		return err
	}
	return g.conn.Invoke(ctx, method, args, reply, opts...)
}

func (g guard) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := g.check(ctx, method); err != nil {
		return nil, err
	}
	return g.conn.NewStream(ctx, desc, method, opts...)
}

// failed keeps the error for the handler around, and puts the metadata of the
// answer where the metadata of a failed call goes over HTTP: into the headers.
func (g *Gateway) failed(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	c := callOf(ctx)
	if c == nil { // no route was found, because the path is none
		g.unmatched(w, r, http.StatusBadRequest)
		return
	}
	w.Header().Del("Trailer")
	w.Header().Del("Transfer-Encoding")
	if md, ok := runtime.ServerMetadataFromContext(ctx); ok {
		addHeaders(w.Header(), md.HeaderMD)
		addHeaders(w.Header(), md.TrailerMD)
	}
	if !c.served {
		err = unread(err)
	}
	c.err = err
}

// streamFailed tells what goes into a response that has begun.
func streamFailed(ctx context.Context, err error) *status.Status {
	if c := callOf(ctx); c != nil {
		c.err = err
	}
	return middleware.Status(err)
}

// unread is the error of a request that did not become a message. The text is
// protobuf's, which names line and field; it varies its spaces on purpose.
func unread(err error) error {
	if bad, ok := errors.AsType[*runtime.HTTPStatusError](err); ok {
		return status.Error(codes.InvalidArgument, "read the request: "+bad.Err.Error())
	}
	s := status.Convert(err)
	if s.Code() != codes.InvalidArgument {
		return err
	}
	text := strings.ReplaceAll(s.Message(), "\u00a0", " ")
	return status.Error(codes.InvalidArgument, "read the request: "+strings.ReplaceAll(text, "proto: ", ""))
}

// binaryHeaders adds what toHeader leaves out of a response that goes well.
func binaryHeaders(ctx context.Context, w http.ResponseWriter, _ proto.Message) error {
	md, ok := runtime.ServerMetadataFromContext(ctx)
	if !ok {
		return nil
	}
	for key, values := range md.HeaderMD {
		if strings.HasSuffix(key, "-bin") && w.Header()[http.CanonicalHeaderKey(key)] == nil {
			addHeaders(w.Header(), metadata.MD{key: values})
		}
	}
	return nil
}

func addHeaders(h http.Header, md metadata.MD) {
	for key, values := range md {
		if reserved(key) {
			continue
		}
		for _, v := range values {
			if strings.HasSuffix(key, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			h.Add(key, v)
		}
	}
}
