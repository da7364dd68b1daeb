// Command billing runs the shop's billing service.
package main

import (
	"plinth.internal/examples/shop/internal/billing"
	"plinth.internal/framework"
)

func main() { framework.Run("billing", billing.Setup) }
