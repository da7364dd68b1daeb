package framework

import (
	"maps"
	"slices"

	"plinth.internal/client"
	"plinth.internal/config"
)

// Keys below that of a service which name files.
const (
	keyCAFile    = "tls.ca_file"
	keyCertFile  = "tls.cert_file"
	keyTokenFile = "token_file"
)

// namedFile is a file that a level of the section clients names, with the one that
// goes with it.
type namedFile struct{ key, name, beside string }

func (f namedFile) check() error {
	switch f.key {
	case keyCAFile:
		return (&client.TLS{Mode: client.TLSOn, CAFile: f.name}).Check()
	case keyCertFile:
		return (&client.TLS{Mode: client.TLSMutual, CertFile: f.name, KeyFile: f.beside}).Check()
	}
	_, err := client.ReadToken(f.name)
	return err
}

// givenBy reports whether the file is named on a level itself.
func (f namedFile) givenBy(c *clientSettings) bool {
	return map[string]string{keyCAFile: c.TLS.CAFile, keyCertFile: c.TLS.CertFile, keyTokenFile: c.TokenFile}[f.key] != ""
}

// files are those that calls to a service are made with.
func (t *clientTable) files(service string) []namedFile {
	var out []namedFile
	s := t.resolved[clientKey{service, ""}]
	if tls := s.TLS; tls != nil {
		if tls.CAFile != "" && oneOf(tls.Mode, client.TLSOn, client.TLSMutual) {
			out = append(out, namedFile{key: keyCAFile, name: tls.CAFile})
		}
		if tls.Mode == client.TLSMutual {
			out = append(out, namedFile{keyCertFile, tls.CertFile, tls.KeyFile})
		}
	}
	if s.TokenFile != "" {
		out = append(out, namedFile{key: keyTokenFile, name: s.TokenFile})
	}
	return out
}

// checkFiles reads the files that the section clients names and did not name
// before: a change that no call could be made with is not taken. Those that are in
// use already may turn bad at any time, which must not hold up other changes. At
// the start, while nothing is in use, [clientTable.checkTLS] and
// [clientTable.checkTokens] do it.
func (s *settings) checkFiles(t *clientTable) []error {
	if s.inUse == nil || s.inUse.Load() == nil {
		return nil
	}
	now, done := s.inUse.Load(), map[namedFile]bool{}
	for k := range now.resolved {
		for _, f := range now.files(k.service) {
			done[f] = true
		}
	}
	var errs []error
	for _, service := range slices.Sorted(maps.Keys(s.Clients)) {
		for _, f := range t.files(service) {
			if done[f] {
				continue
			}
			done[f] = true
			if err := f.check(); err != nil {
				level, own := defaultClient, s.Clients[service]
				if f.givenBy(&own) {
					level = service
				}
				errs = append(errs, config.InvalidNow("clients."+level+"."+f.key, "is of no use, and the change is taken once it is: %v", err))
			}
		}
	}
	return errs
}
