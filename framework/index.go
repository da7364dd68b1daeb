package framework

import (
	"fmt"
	"strings"

	"plinth.internal/registry"
)

// aboutPages says what each page of the admin listener shows, for its index.
func aboutPages() map[string]string {
	return map[string]string{
		"/health":           "How the process is: its checks and its registration. 503 when it is not ready.",
		"/health/ready":     "The same, for whoever sends it traffic.",
		"/health/live":      "Whether the process answers at all, whatever its checks say.",
		"/health/startup":   "Whether it has started: 503 until then.",
		"/metrics":          "All metrics, for Prometheus.",
		"/info":             "Version, instance, addresses and when it started.",
		"/debug/clients":    "Why did a call go there? The services that it calls, instance by instance.",
		"/debug/lifecycle":  "How it started, and how its stop goes on: the phases, and the calls that are late.",
		"/debug/heartbeats": "The goroutines that have to show that they live.",
		"/debug/config":     "Every setting, its value, and where that comes from.",
		"/debug/lint":       "What is doubtful in its configuration, and what to do about it.",
		"/debug/limit":      "Which calls are turned away for overload, and whose.",
		"/debug/log":        "The log level; PUT changes it.",
	}
}

// statusLine is what the index says of the process: the status of /health, and
// what is wrong.
func (a *App) statusLine() string {
	doc := a.Health()
	var wrong []string
	for _, c := range doc.Checks {
		if c.Status != HealthOK {
			wrong = append(wrong, fmt.Sprintf("check %s is %s", c.Name, c.Status))
		}
	}
	if s := doc.Registry.State; s == string(registry.Lost) || s == string(registry.Registering) {
		wrong = append(wrong, "the registration is "+s)
	}
	line := fmt.Sprintf("Health: %s, in phase %s", doc.Status, doc.Phase)
	if len(wrong) > 0 {
		line += ": " + strings.Join(wrong, ", ")
	}
	return line + "."
}
