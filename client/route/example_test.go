package route_test

import (
	"fmt"
	"net/http"

	"plinth.internal/client/route"
)

type headers http.Header

func (h headers) Header(key string) string { return http.Header(h).Get(key) }

type members map[string]string

func (m members) Value(key string) string { return m[key] }

func Example() {
	table, err := route.New(route.Rule{
		Name:    "canary",
		Headers: map[string]string{"x-canary": "1"},
		Version: "1.4.0",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, value := range []string{"1", "0"} {
		i := table.Match(route.Call{Headers: headers{"X-Canary": {value}}, Baggage: members{}})
		if i == route.None {
			fmt.Println(value, "goes to the ordinary instances")
			continue
		}
		rule := table.At(i)
		fmt.Println(value, "goes by rule", rule.Name, "to", rule.Instances())
	}

	versions := []string{"1.3.0", "1.4.0", "1.3.0"}
	division := table.Divide(len(versions), func(i int) (string, map[string]string) { return versions[i], nil })
	fmt.Println("canary:", division.Rules[0], "ordinary:", division.Ordinary)
	// Output:
	// 1 goes by rule canary to version 1.4.0
	// 0 goes to the ordinary instances
	// canary: [1] ordinary: [0 2]
}
