package framework

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"plinth.internal/middleware/limit"
)

// limitSettings are what is turned away so that the rest can be served.
type limitSettings struct {
	Enabled bool                    `yaml:"enabled" doc:"limit the calls in flight to what is learned from their latency; max and rate hold without it, too"`
	Max     int                     `yaml:"max" doc:"most calls in flight whatever is learned, ten streams as one call, of which sheddable ones may use a part; 0 for no such limit"`
	Rate    map[string]rateSettings `yaml:"rate"`
}

// rateSettings are one rate; its name is the key that it stands at.
type rateSettings struct {
	Method string  `yaml:"method" doc:"what is limited: orders.v1.Orders/Get, an HTTP route such as GET /items/{id}, or the beginning of either and *; everything but health checks unless set"`
	Caller string  `yaml:"caller" doc:"whose calls: a name, as /debug/limit shows it, or * for each caller by itself; one such as mtls:orders must be proved; all callers together unless set"`
	RPS    float64 `yaml:"rps" doc:"calls a second that are let in; must be set"`
	Burst  int     `yaml:"burst" doc:"calls that may come at once; as many as in a second unless set"`
}

// Validate checks what the types cannot.
func (s *limitSettings) Validate() error {
	var v violations
	v.addf(s.Max < 0, "max", "is below zero")
	v.addf(len(s.Rate) > limit.MaxRates, "rate", "has %d rates, want %d at most", len(s.Rate), limit.MaxRates)
	for _, r := range s.rates() {
		for _, err := range joined(limit.Config{Rates: []limit.Rate{r}}.Validate()) {
			if bad, ok := errors.AsType[*limit.RateError](err); ok {
				v = append(v, invalid("rate."+r.Name+"."+strings.ToLower(bad.Field), bad.Constraint, bad.Field == "RPS" && r.RPS == 0))
			}
		}
	}
	return errors.Join(v...)
}

// rates are the rates in the order of their names.
func (s *limitSettings) rates() []limit.Rate {
	var out []limit.Rate
	for _, name := range slices.Sorted(maps.Keys(s.Rate)) {
		r := s.Rate[name]
		out = append(out, limit.Rate{Name: name, Method: r.Method, Caller: r.Caller, RPS: r.RPS, Burst: r.Burst})
	}
	return out
}

// config is what the settings say.
func (s *limitSettings) config() limit.Config {
	return limit.Config{Off: !s.Enabled, Max: s.Max, Rates: s.rates()}
}
