package framework

import (
	"fmt"

	"plinth.internal/config"
)

type configSettings struct {
	Source string `yaml:"source" doc:"where the central documents come from: etcd (the registry's) or none; etcd unless set where the registry is etcd"`
}

// The values of config.source.
const (
	sourceEtcd = "etcd"
	sourceNone = "none"
)

// Validate checks what the types cannot.
func (c *configSettings) Validate() error {
	if !oneOf(c.Source, "", sourceEtcd, sourceNone) {
		return config.Invalid("source", "is none of etcd, none")
	}
	return nil
}

// feedsFromEtcd reports whether there are central documents in the registry's etcd.
func (s *settings) feedsFromEtcd() (bool, error) {
	etcd := s.Registry.kind() == kindEtcd
	if s.Config.Source == sourceEtcd && !etcd {
		return false, &configError{fmt.Errorf("config.source is etcd, but the registry is %s; give registry.endpoints or leave config.source out", s.Registry.kind())}
	}
	return etcd && s.Config.Source != sourceNone, nil
}
