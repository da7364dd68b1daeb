package config_test

import (
	"fmt"
	"os"
	"path/filepath"

	"plinth.internal/config"
)

func Example() {
	type settings struct {
		Greeting string        `yaml:"greeting"`
		Limit    int           `yaml:"limit"`
		Password config.Secret `yaml:"password"`
	}
	c, err := config.Load(
		config.WithFile("does-not-exist.yaml", false),
		config.WithEnviron([]string{"PLINTH_HELLO_LIMIT=7", "PLINTH_HELLO_PASSWORD=hunter2"}),
		config.WithFlags([]string{"hello.limit=9"}),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := config.Bind(c, "hello", settings{Greeting: "hi"})
	fmt.Println(s.Greeting, s.Limit, s.Password, err)
	for _, e := range c.Entries() {
		fmt.Printf("%s = %s, from %v\n", e.Key, e.Value, e.Source)
	}
	// Output:
	// hi 9 *** <nil>
	// hello.greeting = hi, from default
	// hello.limit = 9, from flag --hello.limit
	// hello.password = ***, from environment variable PLINTH_HELLO_PASSWORD
}

// A section that follows the file. A service leaves Reload to Follow, which the
// framework runs.
func ExampleWatch() {
	type settings struct {
		Addr  string `yaml:"addr"`
		Limit int    `hot:"true" yaml:"limit"`
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "plinth.yaml")
	write := func(text string) { _ = os.WriteFile(file, []byte(text), 0o600) }

	write("hello: {limit: 5}")
	c, err := config.Load(config.WithFile(file, true))
	if err != nil {
		fmt.Println(err)
		return
	}
	hello, err := config.Watch(c, "hello", settings{Addr: ":80"})
	if err != nil {
		fmt.Println(err)
		return
	}
	hello.OnChange(func(old, current settings) { fmt.Println("limit was", old.Limit, "and is", current.Limit) })

	write("hello: {limit: 7, addr: ':81'}")
	change, err := c.Reload()
	fmt.Println(hello.Get().Addr, hello.Get().Limit, change.Restart, err)

	write("hello: {limit: 9, adr: ':81'}")
	_, err = c.Reload()
	fmt.Println(hello.Get().Limit, err != nil)
	// Output:
	// limit was 5 and is 7
	// :80 7 [hello.addr] <nil>
	// 7 true
}
