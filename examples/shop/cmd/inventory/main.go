// Command inventory runs the shop's inventory service.
package main

import (
	"plinth.internal/examples/shop/internal/inventory"
	"plinth.internal/framework"
)

func main() { framework.Run("inventory", inventory.Setup) }
