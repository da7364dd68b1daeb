// Command orders runs the shop's orders service.
package main

import (
	"plinth.internal/examples/shop/internal/orders"
	"plinth.internal/framework"
)

func main() { framework.Run("orders", orders.Setup) }
