// Command your-service runs the service. Configuration: plinth.yaml, environment, flags; see --help.
package main

import (
	"plinth.internal/framework"
	"plinth.internal/templates/service/internal/service"
)

func main() {
	framework.Run("your-service", service.Setup)
}
