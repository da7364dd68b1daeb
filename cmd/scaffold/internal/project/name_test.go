package project

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	long := strings.Repeat("a", MaxName+1)
	tests := []struct {
		name    string
		ok      bool
		suggest string
	}{
		{name: "orders", ok: true},
		{name: "a", ok: true},
		{name: "order-api-2", ok: true},
		{name: "range", ok: true}, // Go keywords and predeclared names: identifiers made of them carry a suffix
		{name: "string", ok: true},
		{name: "test", ok: true},
		{name: "your-service", ok: true},
		{name: strings.Repeat("a", MaxName), ok: true},
		{name: "", suggest: ""},
		{name: "1bad", suggest: "bad"},
		{name: "Orders_API", suggest: "orders-api"},
		{name: "ordersAPI", suggest: "orders-api"},
		{name: "orders--api", suggest: "orders-api"},
		{name: "-orders-", suggest: "orders"},
		{name: "orders.api", suggest: "orders-api"},
		{name: "../orders", suggest: "orders"},
		{name: "orders/api", suggest: "orders-api"},
		{name: "été", suggest: "t"},
		{name: "日本", suggest: ""},
		{name: "internal", suggest: "internal-service"},
		{name: "vendor", suggest: "vendor-service"},
		{name: "testdata", suggest: "testdata-service"},
		{name: "default", suggest: "default-service"},
		{name: "defaults", ok: true},
		{name: "item", suggest: "item-service"},
		{name: "get-request", suggest: "get-request-service"},
		{name: long, suggest: long[:MaxName]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := CheckName(tt.name)
			if tt.ok != (err == nil) {
				t.Fatalf("error %v, want ok %v", err, tt.ok)
			}
			if e, ok := errors.AsType[*NameError](err); ok && e.Suggest != tt.suggest {
				t.Errorf("suggests %q, want %q", e.Suggest, tt.suggest)
			}
		})
	}
}

func TestSpell(t *testing.T) {
	tests := []struct{ name, packed, pascal string }{
		{"orders", "orders", "Orders"},
		{"your-service", "yourservice", "YourService"},
		{"a-1b", "a1b", "A1B"}, // as protoc-gen-go spells it
		{"x2y", "x2y", "X2Y"},
	}
	for _, tt := range tests {
		if got := spell(tt.name); got.packed != tt.packed || got.pascal != tt.pascal || got.kebab != tt.name {
			t.Errorf("spell(%q) = %+v", tt.name, got)
		}
	}
}

func TestCheckModule(t *testing.T) {
	tests := []struct {
		path string
		ok   bool
	}{
		{"orders", true},
		{"github.com/acme/orders", true},
		{"demo.plinth.internal/billing", true},
		{"log", false},
		{"net/orders", false},
		{"main", false},
		{"plinth.internal", false},
		{"plinth.internal/orders", false},
		{"", false},
		{"/orders", false},
		{"acme//orders", false},
		{"acme/or ders", false},
		{"acme/\"orders", false},
	}
	for _, tt := range tests {
		if err := CheckModule(tt.path); tt.ok != (err == nil) {
			t.Errorf("CheckModule(%q) = %v", tt.path, err)
		}
	}
}

func TestParseCallee(t *testing.T) {
	tests := []struct {
		in   string
		want Callee
		ok   bool
	}{
		{"billing=github.com/acme/billing", Callee{"billing", "github.com/acme/billing", ""}, true},
		{"billing=github.com/acme/billing@../billing", Callee{"billing", "github.com/acme/billing", "../billing"}, true},
		{"billing=github.com/acme/billing@/home/a@b", Callee{"billing", "github.com/acme/billing", "/home/a@b"}, true},
		{"billing", Callee{}, false},
		{"billing=", Callee{}, false},
		{"Billing=github.com/acme/billing", Callee{}, false},
		{"billing=@../billing", Callee{}, false},
		{"billing=acme/billing@", Callee{}, false},
		{"billing=acme/billing@a\nb", Callee{}, false},
	}
	for _, tt := range tests {
		got, err := ParseCallee(tt.in)
		if tt.ok != (err == nil) || got != tt.want {
			t.Errorf("ParseCallee(%q) = %+v, %v", tt.in, got, err)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"orders", "1bad", "Orders_API", "", "-", "a-1b", "İ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := CheckName(name)
		if e, ok := errors.AsType[*NameError](err); ok && e.Suggest != "" {
			if err := CheckName(e.Suggest); err != nil {
				t.Fatalf("suggests %q for %q: %v", e.Suggest, name, err)
			}
		}
		if err == nil && strings.ToLower(spell(name).pascal) != spell(name).packed {
			t.Fatalf("spellings of %q differ: %+v", name, spell(name))
		}
	})
}

func FuzzParseCallee(f *testing.F) {
	f.Add("billing=github.com/acme/billing@../billing")
	f.Add("=@")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCallee(s)
		if err != nil {
			return
		}
		if CheckName(c.Name) != nil || CheckModule(c.Module) != nil {
			t.Fatalf("accepted %+v", c)
		}
	})
}
