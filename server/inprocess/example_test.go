package inprocess_test

import (
	"context"
	"fmt"

	"plinth.internal/server/gateway/testdata/restv1"
	"plinth.internal/server/inprocess"
)

// A client of a service in the same process.
func Example() {
	handlers := inprocess.New(nil, nil)
	restv1.RegisterNotesServer(handlers, notes{})
	client := restv1.NewNotesClient(handlers.Conn())
	note, err := client.Get(context.Background(), &restv1.GetRequest{Id: "a"})
	fmt.Println(note.GetId(), err)
	// Output: a <nil>
}
