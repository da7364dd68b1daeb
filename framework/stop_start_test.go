package framework_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"plinth.internal/framework"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

// memoryListener has an address that can be registered.
type memoryListener struct{ *bufconn.Listener }

func (memoryListener) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "echo.mem:9000" }

// follow collects the states in which the store shows the one instance of echo,
// "" for none, until ctx ends.
func follow(ctx context.Context, store *memory.Store) (states func() []registry.State, end func()) {
	reg := memory.Open(store)
	var mu sync.Mutex
	var seen []registry.State
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	wg.Go(func() {
		for snapshot, err := range reg.Watch(ctx, "echo") {
			if err != nil {
				continue // it is down
			}
			state := registry.State("")
			for _, inst := range snapshot.Instances {
				state = inst.State
			}
			mu.Lock()
			seen = append(seen, state)
			mu.Unlock()
		}
	})
	return func() []registry.State {
			mu.Lock()
			defer mu.Unlock()
			return seen
		}, func() {
			cancel()
			wg.Wait()
			_ = reg.Close()
		}
}

// interrupted reports that the last phase of the start was told to have failed.
func (r *recorder) interrupted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var last framework.PhaseEnded
	for _, e := range r.events {
		if p, ok := e.(framework.PhaseEnded); ok && p.Stage == framework.StageStart {
			last = p
		}
	}
	return last.Err != nil
}

// TestStopDuringTheStart: a stop that comes during the start ends it there, in
// whatever phase it is. Nobody hears of an instance that is about to go.
func TestStopDuringTheStart(t *testing.T) {
	const soon = 500 * time.Millisecond
	for _, tc := range []struct {
		name     string
		setup    func(s *framework.Service)
		down     bool // the registry, until a second after the stop
		required string
	}{
		{"setup that does not look at its context", func(*framework.Service) { <-time.After(3 * soon) }, false, "false"},
		{"the same with registry.required", func(*framework.Service) { <-time.After(3 * soon) }, false, "true"},
		{"a check that passes after the stop", func(s *framework.Service) {
			s.Check("slow", func(context.Context) error { <-time.After(3 * soon); return nil })
		}, false, "false"},
		{"a check that fails", func(s *framework.Service) {
			s.Check("db", func(context.Context) error { return errors.New("connection refused") })
		}, false, "false"},
		{"waiting for the registry", func(*framework.Service) {}, true, "true"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory.NewStore()
				states, end := follow(t.Context(), store)
				defer end()
				if tc.down {
					store.SetDown(errors.New("no quorum"))
				}
				reg := memory.Open(store)
				defer reg.Close()
				var r recorder
				app, err := framework.New("echo", func(_ context.Context, s *framework.Service) error {
					s.RegisterService(&echoDesc, plainEcho)
					tc.setup(s)
					return nil
				}, r.option(), framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()),
					framework.WithRegistry(reg), framework.WithListener("grpc", memoryListener{bufconn.Listen(1 << 10)}),
					framework.WithSetting("server.admin.addr", ""), framework.WithSetting("server.drain.dump_dir", "off"),
					framework.WithSetting("server.drain.delay", "1s"), framework.WithSetting("registry.required", tc.required))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ended := make(chan error, 1)
				go func() { ended <- app.Run(ctx) }()
				advance(soon)
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("Run = %v, want nil", err)
				}
				store.SetDown(nil)
				advance(30 * time.Second) // whatever is still announced comes back
				for _, state := range states() {
					if state != "" {
						t.Errorf("the registry showed the instance as %s", state)
					}
				}
				select {
				case <-app.Ready():
					t.Error("Ready is closed")
				default:
				}
				if count[framework.Ready](&r) != 0 {
					t.Error("told that it is ready")
				}
				if n := [...]int{count[framework.Stopping](&r), count[framework.Stopped](&r)}; n != [...]int{1, 1} {
					t.Errorf("told %d times that it stops and %d times that it has stopped, want once each", n[0], n[1])
				}
				names, _ := r.phases()
				for _, name := range []string{"finish calls", "end goroutines", "close clients", "flush telemetry"} {
					if !slices.Contains(names, name) {
						t.Errorf("phases of the stop %q, want %q among them", names, name)
					}
				}
				if !r.interrupted() {
					t.Error("no phase of the start is told to have been interrupted")
				}
			})
		})
	}
}
