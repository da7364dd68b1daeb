package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// route is a verb and a path template as grpc-gateway writes it: "/v1/{id=*}".
type route struct{ verb, pattern string }

type binding struct {
	route

	method string // "shop.v1.Orders/Get"
}

// unanswered are errors for services that have routes here and are not described.
func (g *Gateway) unanswered(services []string) (errs []error) {
	for _, service := range annotated() {
		if slices.Contains(services, service) {
			continue
		}
		for _, b := range bindings(service) {
			if _, taken := g.routes[b.route]; taken || !g.has(b.route) {
				continue
			}
			name := service[strings.LastIndexByte(service, '.')+1:]
			errs = append(errs, fmt.Errorf(
				"add REST routes: Gateway has %s %s of %s, which is not registered: call Register%sServer in the setup, or add the routes of registered services only",
				b.verb, b.pattern, service, name))
			break // one route says it
		}
	}
	return errs
}

// has reports whether a route was added. The mux cannot be asked for its routes; it
// is given a request that the route matches, and nobody writes a response to it.
func (g *Gateway) has(r route) bool {
	var found route
	g.lookup = &found
	defer func() { g.lookup = nil }()
	g.mux.ServeHTTP(nil, &http.Request{Method: r.verb, URL: &url.URL{Path: r.example()}, Header: http.Header{}})
	return found == r
}

// annotated are the services with routes among all protos that are linked in,
// sorted.
func annotated() (services []string) {
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			if name := string(f.Services().Get(i).FullName()); len(bindings(name)) > 0 {
				services = append(services, name)
			}
		}
		return true
	})
	slices.Sort(services)
	return services
}

// bindings are the routes of a service's annotations.
func bindings(service string) []binding {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil // its proto is not linked in, which is no fault
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil
	}
	var out []binding
	methods := sd.Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
		if !ok || rule == nil {
			continue
		}
		method := service + "/" + string(m.Name())
		for _, r := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
			if verb, template := pattern(r); template != "" {
				out = append(out, binding{route{verb, normal(template)}, method})
			}
		}
	}
	return out
}

func pattern(r *annotations.HttpRule) (verb, template string) {
	switch p := r.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	case *annotations.HttpRule_Custom:
		return p.Custom.GetKind(), p.Custom.GetPath()
	}
	return "", ""
}

var (
	variable = regexp.MustCompile(`\{[^=}]+=([^}]*)\}`)
	wildcard = regexp.MustCompile(`\*+`)
)

// example is a path that the route matches.
func (r route) example() string {
	return wildcard.ReplaceAllString(variable.ReplaceAllString(r.pattern, "$1"), "x")
}

var short = regexp.MustCompile(`\{([^=}]+)\}`)

// normal writes {id} as {id=*}, which means the same.
func normal(template string) string { return short.ReplaceAllString(template, "{$1=*}") }
