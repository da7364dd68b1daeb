package config

import (
	"regexp"
	"strings"
)

// EnvPrefix begins the name of every environment variable that is a key.
const EnvPrefix = "PLINTH_"

var envReplacer = strings.NewReplacer(".", "_", "-", "_")

// EnvName is the environment variable for a key.
func EnvName(key string) string { return EnvPrefix + envPart(key) }

// envPart is how a part of a key is spelled in the name of a variable.
func envPart(part string) string { return strings.ToUpper(envReplacer.Replace(part)) }

// readEnviron takes the variables that are keys out of a list as os.Environ
// gives it.
func readEnviron(environ []string) layer {
	vars := map[string]string{}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, EnvPrefix) {
			vars[name] = value
		}
	}
	env := layer{items: map[string]*item{}, byName: true}
	for name, value := range vars {
		if !isServiceLink(vars, name) {
			env.items[name] = &item{source: Source{Kind: KindEnv, Name: name}, value: value}
		}
	}
	return env
}

// Kubernetes gives every container variables for each Service of its namespace:
// for one called plinth-db these are PLINTH_DB_SERVICE_HOST,
// PLINTH_DB_SERVICE_PORT, PLINTH_DB_PORT=tcp://10.0.0.1:5432,
// PLINTH_DB_PORT_5432_TCP and some more. None of them is meant as a setting.
var (
	linkSuffix = regexp.MustCompile(`^_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)$`)
	linkURL    = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// isServiceLink reports a variable that belongs to such a set. The name alone
// does not tell: PLINTH_DB_PORT=5432 is a setting. The set's _SERVICE_HOST and
// its _PORT, which is a URL, do.
func isServiceLink(vars map[string]string, name string) bool {
	for i := range name { // the Service's name may itself hold what looks like a suffix
		service := name[:i]
		if _, ok := vars[service+"_SERVICE_HOST"]; ok && linkURL.MatchString(vars[service+"_PORT"]) && linkSuffix.MatchString(name[i:]) {
			return true
		}
	}
	return false
}
