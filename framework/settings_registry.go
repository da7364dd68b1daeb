package framework

import (
	"cmp"
	"errors"
	"time"

	"plinth.internal/config"
	"plinth.internal/registry"
)

type registrySettings struct {
	Kind        string              `yaml:"kind" doc:"etcd, dns or static; etcd where endpoints are given, else static"`
	Endpoints   []string            `yaml:"endpoints" doc:"addresses of the registry, separated by commas"`
	Namespace   string              `yaml:"namespace" doc:"prefix of all keys"`
	TTL         time.Duration       `yaml:"ttl" doc:"how long an entry outlives its process, whole seconds"`
	Required    bool                `yaml:"required" doc:"be ready only once registered"`
	Username    string              `yaml:"username" doc:"user for the registry"`
	Password    config.Secret       `yaml:"password" doc:"password for the registry"`
	TLS         registryTLSSettings `yaml:"tls"`
	SnapshotDir string              `yaml:"snapshot_dir" doc:"directory for the last good lists and central documents, for a start without the registry; plinth/registry in the user's cache directory unless set, off for none"`
	Static      map[string][]string `yaml:"static" doc:"addresses of a service: the lists of the static registry, and what any other falls back on when it gives none"`
	StaticFile  string              `yaml:"static_file" doc:"file with the lists of the static registry, in place of registry.static; followed as it changes"`
	DNS         registryDNSSettings `yaml:"dns"`
}

type registryTLSSettings struct {
	CAFile   string `yaml:"ca_file" doc:"PEM file with the roots of the registry's certificates; giving any of the files turns on TLS, a changed file is read again"`
	CertFile string `yaml:"cert_file" doc:"PEM file with the certificate that is shown to the registry"`
	KeyFile  string `yaml:"key_file" doc:"PEM file with the key of that certificate"`
}

type registryDNSSettings struct {
	Name   string `yaml:"name" doc:"names of a service's records, with {service} for the service: {service}.prod.svc.cluster.local.:9000 or _grpc._tcp.{service}.prod.svc.cluster.local."`
	Server string `yaml:"server" doc:"DNS server, host:port; the system's unless set"`
}

// The kinds of registry.
const (
	kindEtcd   = "etcd"
	kindDNS    = "dns"
	kindStatic = "static"
)

// kind is the registry in use.
func (r *registrySettings) kind() string {
	if r.Kind == "" && len(r.Endpoints) > 0 {
		return kindEtcd
	}
	return cmp.Or(r.Kind, kindStatic)
}

// Validate checks what the types cannot.
func (r *registrySettings) Validate() error {
	var errs []error
	invalid := func(bad bool, key, format string, args ...any) {
		if bad {
			errs = append(errs, config.Invalid(key, format, args...))
		}
	}
	kind := r.kind()
	invalid(!oneOf(kind, kindEtcd, kindDNS, kindStatic), "kind", "is none of etcd, dns, static")
	invalid(kind == kindEtcd && len(r.Endpoints) == 0, "endpoints", "is empty, but the registry is etcd; give its addresses, such as 127.0.0.1:2379")
	invalid(oneOf(kind, kindDNS, kindStatic) && len(r.Endpoints) > 0, "endpoints", "is of no use to a %s registry; set registry.kind to etcd or leave it out", kind)
	invalid(kind == kindDNS && r.DNS.Name == "", "dns.name", "is empty, but the registry is dns; give the name of a service's records, such as {service}.prod.svc.cluster.local.:9000")
	invalid(kind != kindDNS && (r.DNS.Name != "" || r.DNS.Server != ""), "dns", "is of no use to the registry %s; set registry.kind to dns or leave it out", kind)
	invalid(kind != kindStatic && r.StaticFile != "", "static_file", "is of no use to the registry %s; set registry.kind to static or leave it out", kind)
	invalid(len(r.Static) > 0 && r.StaticFile != "", "static_file", "stands beside registry.static; give one of the two")
	invalid((r.TLS.CertFile == "") != (r.TLS.KeyFile == ""), "tls", "has one of cert_file and key_file; give both or none")
	invalid(kind != kindEtcd && r.TLS != registryTLSSettings{}, "tls", "is of no use to the registry %s; leave it out", kind)
	errs = append(errs, r.checkAddresses())
	if kind == kindEtcd && r.Password != "" && r.Username == "" {
		errs = append(errs, config.InvalidUnshown("password", "stands without registry.username; give both or none"))
	}
	invalid(kind == kindEtcd && r.Username != "" && r.Password == "", "username", "stands without registry.password; give both or none")
	invalid(r.TTL < registry.MinTTL || r.TTL%time.Second != 0, "ttl", "is not one or more whole seconds")
	return errors.Join(errs...)
}

// checkAddresses refuses users and passwords in addresses, which are shown.
func (r *registrySettings) checkAddresses() error {
	var v violations
	if v.userinfo("endpoints", "give registry.username and registry.password instead", r.Endpoints...); len(v) == 0 && r.kind() == kindEtcd {
		for _, e := range r.Endpoints {
			if !isEtcdEndpoint(e) {
				v = append(v, config.InvalidUnshown("endpoints", "has %q, want host:port, http://host:port or https://host:port with a port from 1 to 65535", e))
			}
		}
	}
	v.userinfo("dns.server", "a DNS server takes none, leave it out", r.DNS.Server)
	v.userinfo("dns.name", "a name in the DNS has none, leave it out", r.DNS.Name)
	for service, addrs := range r.Static {
		v.userinfo("static."+service, "give host:port alone", addrs...)
	}
	return errors.Join(v...)
}
