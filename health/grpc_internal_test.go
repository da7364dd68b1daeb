package health

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// watcher is the server's side of a stream.
type watcher struct {
	grpc.ServerStreamingServer[healthpb.HealthCheckResponse]

	ctx  context.Context
	sent []healthpb.HealthCheckResponse_ServingStatus
}

func (w *watcher) Context() context.Context { return w.ctx }

func (w *watcher) Send(r *healthpb.HealthCheckResponse) error {
	w.sent = append(w.sent, r.GetStatus())
	return nil
}

// TestWatchUnknown: who watches a service that is not there is told so, and of
// the service when it comes; nothing remembers the names that were asked for.
func TestWatchUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New()
		h.SetPhase(Serving)
		h.Serve("a.A")
		var watchers []*watcher
		ended := make(chan error, 1000)
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 1000 {
			w := &watcher{ctx: ctx}
			watchers = append(watchers, w)
			go func() {
				ended <- h.GRPC().Watch(&healthpb.HealthCheckRequest{Service: fmt.Sprint("name ", i)}, w)
			}()
		}
		synctest.Wait()
		h.Serve("b.B") // none of them
		h.Serve("name 7")
		synctest.Wait()
		for i, w := range watchers {
			want := []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVICE_UNKNOWN}
			if i == 7 {
				want = append(want, healthpb.HealthCheckResponse_SERVING)
			}
			if !reflect.DeepEqual(w.sent, want) {
				t.Errorf("name %d was told %v, want %v", i, w.sent, want)
			}
		}
		if n := reflect.ValueOf(h.grpc).Elem().FieldByName("updates").Len(); n != 1 {
			t.Errorf("%d names are remembered, want the one that is served", n)
		}
		cancel()
		for range 1000 {
			if err := <-ended; status.Code(err) != codes.Canceled {
				t.Errorf("a watch ended with %v", err)
			}
		}
	})
}
