package framework

import (
	"strings"

	"plinth.internal/config"
)

// What can stand in clients.<service>.target beside a target.
const (
	targetRegistry = "registry"
	targetService  = "{service}" // stands for the service's name
)

// targetOf finds the target of a service, "" for the registry.
func targetOf(clients map[string]clientSettings, service string) string {
	target := clients[service].Target
	if target == "" {
		target = clients[defaultClient].Target
	}
	if target == targetRegistry {
		return ""
	}
	return strings.ReplaceAll(target, targetService, service)
}

// checkTarget checks the form of a target; whether something resolves it is
// found out when a service is called.
func (v *violations) checkTarget(target string) {
	scheme, rest, ok := strings.Cut(target, ":")
	if !strings.HasPrefix(scheme, "unix") { // where @ begins the name of an abstract socket
		v.userinfo("target", "give clients.<service>.token_file instead", target)
	}
	v.addf(target != "" && target != targetRegistry && (!ok || scheme == "" || rest == "" || strings.ContainsFunc(scheme, notInScheme)), "target",
		"is neither %s nor a target of grpc, such as xds:///orders or dns:///orders.example:9000", targetRegistry)
	v.addf(noEndpoint(rest), "target", "has nothing after what grpc takes for an authority: want three slashes, as in dns:///orders.example:9000")
	v.addf(strings.ContainsAny(strings.ReplaceAll(target, targetService, ""), "{}"), "target", "has braces around something else than the service: want %s", targetService)
}

// noEndpoint reports a target with nothing to resolve, given without its scheme:
// "//" begins an authority (RFC 3986), which ends at the next slash.
func noEndpoint(rest string) bool {
	authority, found := strings.CutPrefix(rest, "//")
	_, endpoint, _ := strings.Cut(authority, "/")
	return found && endpoint == ""
}

// notInScheme reports what no scheme has.
func notInScheme(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '+' && r != '-' && r != '.'
}

// checkDefaultTarget refuses one that would send the calls of all services to the
// same place.
func checkDefaultTarget(clients map[string]clientSettings) error {
	if t := clients[defaultClient].Target; t != "" && t != targetRegistry && !strings.Contains(t, targetService) {
		return config.Invalid("clients."+defaultClient+".target", "would send the calls of all services to one target: want %s in it, as in xds:///%s", targetService, targetService)
	}
	return nil
}
