package tlsfiles_test

import (
	"fmt"

	"plinth.internal/internal/tlsfiles"
)

func ExampleRead() {
	_, err := tlsfiles.Read(tlsfiles.Files{Cert: "orders.pem"})
	fmt.Println(err)
	// Output: certificate and key: must both be given, or neither
}
