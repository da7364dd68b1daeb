package pscmd

import (
	"time"

	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/registry"
)

// instance is one instance with --json.
type instance struct {
	Type      string             `json:"type"`
	Service   string             `json:"service"`
	ID        string             `json:"id"`
	Version   string             `json:"version"`
	Zone      string             `json:"zone"`
	State     registry.State     `json:"state"`
	Weight    int                `json:"weight"`
	Override  *registry.Override `json:"override,omitempty"`
	Started   time.Time          `json:"started,omitzero"`
	AgeS      float64            `json:"age_s"`
	Health    string             `json:"health"`
	Registry  string             `json:"registry,omitempty"`
	Error     string             `json:"error,omitempty"` // why health is not the instance's own word
	Endpoints map[string]string  `json:"endpoints"`
}

// skipped is an entry that is no instance.
type skipped struct {
	Type  string `json:"type"`
	Key   string `json:"key"`
	Error string `json:"error"`
}

// looked ends the list of one look with --watch.
type looked struct {
	Type      string    `json:"type"`
	At        time.Time `json:"at"`
	Instances int       `json:"instances"`
	Skipped   int       `json:"skipped"`
	Error     string    `json:"error,omitempty"` // why the list is not newer
}

type result struct {
	Type      string `json:"type"`
	OK        bool   `json:"ok"`
	Instances int    `json:"instances"`
	Skipped   int    `json:"skipped"`
}

// print writes the list: text for a person, one object for each entry for a
// program.
func (l list) print(p *ui.Printer, text string) error {
	if !p.JSON() {
		return p.Data(text, nil)
	}
	for _, r := range l.rows {
		if err := p.Data("", r.json(l.at)); err != nil {
			return err
		}
	}
	for _, s := range l.odd {
		if err := p.Data("", skipped{"skipped", s.Key, s.Err.Error()}); err != nil {
			return err
		}
	}
	return nil
}

func (l list) looked(err error) looked {
	text := ""
	if err != nil {
		text = err.Error()
	}
	return looked{"looked", l.at, len(l.rows), len(l.odd), text}
}

func (l list) result() result { return result{"result", true, len(l.rows), len(l.odd)} }

func (r row) json(now time.Time) instance {
	i := r.inst
	out := instance{
		Type: "instance", Service: i.Service, ID: i.ID, Version: i.Version, Zone: i.Zone, State: i.State, Weight: i.Weight,
		Started: i.Started, Health: r.health.status, Registry: r.health.registry, Endpoints: i.Endpoints,
	}
	if r.override != (registry.Override{}) {
		out.Override = &r.override
	}
	if !i.Started.IsZero() {
		out.AgeS = max(now.Sub(i.Started), 0).Seconds()
	}
	if r.health.err != nil {
		out.Error = r.health.err.Error()
	}
	return out
}
