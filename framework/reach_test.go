package framework

import (
	"testing"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/subset"
)

// TestReachSettings resolves the levels of zone_factor and subset.
func TestReachSettings(t *testing.T) {
	for text, want := range map[string]struct {
		factor float64
		subset subset.Config
	}{
		"a: {}":                                  {balancer.DefaultAwayFactor, subset.Config{Size: 20, Above: 50}},
		"a: {zone_factor: 1, subset: {size: 0}}": {1, subset.Config{Size: -1, Above: 50}},
		"a: {zone_factor: 2, subset: {above: 100}}":               {2, subset.Config{Size: 20, Above: 100}},
		"{default: {subset: {size: 30}}, a: {}}":                  {1.3, subset.Config{Size: 30, Above: 50}},
		"{default: {subset: {size: 0}}, a: {}}":                   {1.3, subset.Config{Size: -1, Above: 50}},
		"{default: {subset: {size: 0}}, a: {subset: {size: 10}}}": {1.3, subset.Config{Size: 10, Above: 50}},
	} {
		s, err := bindSettings(t, "clients:\n  "+text+"\n")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := newClientTable(s.Clients).settings("a", "Get")
		if got.ZoneFactor != want.factor || got.Subset != want.subset {
			t.Errorf("%s: factor %v and subset %+v, want %+v", text, got.ZoneFactor, got.Subset, want)
		}
	}
	if def := client.DefaultSettings(); def.ZoneFactor != balancer.DefaultAwayFactor || def.Subset.Size != subset.DefaultSize {
		t.Errorf("the client's own defaults are %v and %+v", def.ZoneFactor, def.Subset)
	}
}

func TestClientID(t *testing.T) {
	ports := []string{":9000", "", "127.0.0.1:9100"}
	for _, tt := range []struct{ host, want string }{
		{"web-17", "orders:9000::9100//web-17"},
		{"web-17.dc1.example.com", "orders:9000::9100/dc1.example.com/web-17"},
		{"10.2.3.17", "orders:9000::9100//10.2.3.17"},
		{"fd00::17", "orders:9000::9100//fd00::17"},
		{"", "orders:9000::9100//"},
	} {
		if got := clientIDOf("orders", ports, tt.host); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.host, got, tt.want)
		}
	}
}
