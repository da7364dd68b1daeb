module plinth.internal/registry/zookeeper

go 1.26.0

require (
	github.com/go-zookeeper/zk v1.0.4
	go.uber.org/goleak v1.3.0
	plinth.internal v0.0.0
)

replace plinth.internal => ../..
