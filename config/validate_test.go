package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plinth.internal/config"
)

type shopSettings struct {
	Name  string              `yaml:"name"`
	Items map[string]shopItem `yaml:"items"`
	Till  shopItem            `yaml:"till"`
}

type shopItem struct {
	Price int               `yaml:"price"`
	Count int               `yaml:"count"`
	Tags  map[string]string `yaml:"tags"`
}

func (i *shopItem) Validate() error {
	if i.Price == 0 && i.Count == 0 {
		return nil
	}
	if i.Price == 0 {
		return config.Invalid("price", "is not there, but shop.till.count is")
	}
	return nil
}

func (s *shopSettings) Validate() error {
	for name, i := range s.Items {
		if i.Price == 0 {
			return config.Invalid("items."+name+".price", "must be set")
		}
		if i.Count == 0 {
			return config.Invalid("items."+name, "has no count")
		}
	}
	if s.Name == "bad" {
		return config.Invalid("till.tags", "want some")
	}
	return nil
}

// TestOrigin: an error of a key that was not given has the place of what was given
// next to it.
func TestOrigin(t *testing.T) {
	for _, tc := range []struct{ file, flag, want string }{
		{"shop:\n  name: x\n  items:\n    a:\n      tags: {b: c}\n", "", ":5: shop.items.a.price: "},
		{"shop:\n  items:\n    a: {}\n", "", ":3: shop.items.a.price: "},
		{"shop:\n  items:\n    a:\n      price: 1\n      tags: {}\n", "", ":4: shop.items.a: has no count"},
		{"shop:\n  items: {a: {price: 2}}\n", "shop.items.a.price=0", "flag --shop.items.a.price: shop.items.a.price: "},
		{"shop:\n  till:\n    tags: {x: y}\n    count: 3\n", "", ":4: shop.till.price: "},
		{"shop:\n  name: bad\n", "", ":2: shop.till.tags: want some"},
	} {
		path := filepath.Join(t.TempDir(), "app.yaml")
		if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
			t.Fatal(err)
		}
		opts := []config.Option{config.WithFile(path, true)}
		if tc.flag != "" {
			opts = append(opts, config.WithFlags([]string{tc.flag}))
		}
		c, err := config.Load(opts...)
		if err != nil {
			t.Fatal(err)
		}
		_, err = config.Bind(c, "shop", shopSettings{})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q in it", tc.file, err, tc.want)
		}
	}
}
