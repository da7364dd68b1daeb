package gateway

import (
	"net/http"
	"regexp"
	"slices"

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
