package config_test

import (
	"fmt"

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
