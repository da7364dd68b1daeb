package pscmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"plinth.internal/registry"
)

const (
	// probeTimeout bounds what one instance may take to answer.
	probeTimeout = time.Second
	// probesAtOnce bounds the connections of one round.
	probesAtOnce = 100
	// maxHealth is more than any health document needs.
	maxHealth = 1 << 20
)

// What an instance may be found to be. The first three are its own words.
const (
	healthOK          = "ok"
	healthDegraded    = "degraded"
	healthDown        = "down"
	healthUnreachable = "unreachable" // nothing answers at its address, as seen from here
	healthOther       = "other"       // another instance answers at its address
	healthUnknown     = "unknown"     // it does not say, or cannot be asked
)

// health is what an instance says of itself.
type health struct {
	status   string
	registry string // its own view of its registration; empty where it is not told
	err      error  // why the status is not an instance's own word
}

// probe asks the instance how it is. The admin listener knows most, but may be
// out of reach from here; so gRPC is asked at the same time, and counts if
// admin does not answer.
func probe(ctx context.Context, inst registry.Instance) health {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	admin, overGRPC := inst.Endpoints["admin"], inst.Endpoints["grpc"]
	if admin == "" && overGRPC == "" {
		return health{status: healthUnknown, err: errors.New("it has neither an admin nor a grpc endpoint")}
	}
	var fromAdmin, fromGRPC health
	var wg sync.WaitGroup
	if overGRPC != "" {
		wg.Go(func() { fromGRPC = askGRPC(ctx, overGRPC) })
	}
	if admin != "" {
		fromAdmin = askAdmin(ctx, admin, inst.ID)
		if fromAdmin.err == nil {
			cancel() // gRPC cannot add to it
		}
	}
	wg.Wait()
	if admin == "" || fromAdmin.err != nil && fromGRPC.err == nil && overGRPC != "" && fromAdmin.status != healthOther {
		return fromGRPC
	}
	return fromAdmin
}

// document is the part of /health that is shown.
type document struct {
	Status   string `json:"status"`
	Instance string `json:"instance"`
	Registry struct {
		State string `json:"state"`
	} `json:"registry"`
}

func askAdmin(ctx context.Context, addr, id string) health {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/health", nil)
	if err != nil {
		return health{status: healthUnknown, err: err}
	}
	// Instances are asked directly: a proxy could not reach them, and what it
	// says would look like theirs.
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return health{status: healthUnreachable, err: err}
	}
	defer resp.Body.Close()
	var doc document
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxHealth)).Decode(&doc); err != nil {
		return health{status: healthUnknown, err: fmt.Errorf("read http://%s/health: %w", addr, err)}
	}
	if doc.Instance != id && doc.Instance != "" {
		return health{status: healthOther, err: fmt.Errorf("instance %q answers at %s", doc.Instance, addr)}
	}
	switch doc.Status {
	case healthOK, healthDegraded, healthDown:
		return health{status: doc.Status, registry: doc.Registry.State}
	default:
		return health{status: healthUnknown, err: fmt.Errorf("http://%s/health says neither ok nor degraded nor down", addr)}
	}
}

func askGRPC(ctx context.Context, addr string) health {
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableServiceConfig())
	if err != nil {
		return health{status: healthUnknown, err: err}
	}
	defer func() { _ = conn.Close() }()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return health{status: healthUnknown, err: errors.New("it has no grpc.health.v1")}
	case err != nil:
		return health{status: healthUnreachable, err: err}
	}
	switch answer.GetStatus() {
	case healthpb.HealthCheckResponse_SERVING:
		return health{status: healthOK}
	case healthpb.HealthCheckResponse_NOT_SERVING:
		return health{status: healthDown}
	default:
		return health{status: healthUnknown, err: fmt.Errorf("grpc.health.v1 says %v", answer.GetStatus())}
	}
}

// address is where the instance takes calls, the one that is shown.
func address(inst registry.Instance) string {
	if addr := cmp.Or(inst.Endpoints["grpc"], inst.Endpoints["http"]); addr != "" {
		return addr
	}
	for _, name := range slices.Sorted(maps.Keys(inst.Endpoints)) {
		return inst.Endpoints[name]
	}
	return ""
}

// each calls do with 0 to n-1, at most limit at a time, and returns when all
// calls have.
func each(n, limit int, do func(int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, limit)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wg.Wait()
}
