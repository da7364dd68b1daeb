package memory

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"plinth.internal/registry"
)

func TestElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewElector()
		if e.Leader("jobs") != "" || e.Depose("jobs") {
			t.Error("somebody leads without having stood")
		}
		stand := func(ctx context.Context, name, candidate string) <-chan registry.Leadership {
			won := make(chan registry.Leadership, 1)
			go func() {
				if l, err := e.Campaign(ctx, name, candidate); err == nil {
					won <- l
				}
			}()
			synctest.Wait()
			return won
		}
		leads := func(won <-chan registry.Leadership) registry.Leadership {
			t.Helper()
			synctest.Wait()
			select {
			case l := <-won:
				return l
			default:
				t.Fatal("it does not lead")
				return nil
			}
		}
		first := leads(stand(t.Context(), "jobs", "a"))
		second := stand(t.Context(), "jobs", "b")
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := stand(ctx, "jobs", "c")
		third := stand(t.Context(), "jobs", "d")
		other := leads(stand(t.Context(), "other", "a"))
		if len(second) != 0 || e.Leader("jobs") != "a" {
			t.Errorf("%s leads, want a alone", e.Leader("jobs"))
		}
		cancel(errors.New("enough"))
		if err := first.Resign(t.Context()); err != nil {
			t.Error(err)
		}
		b := leads(second)
		if len(gone) != 0 || len(third) != 0 || e.Leader("jobs") != "b" || b.Err() != nil {
			t.Errorf("%s leads, want b alone", e.Leader("jobs"))
		}
		if !e.Depose("jobs") {
			t.Error("nobody was deposed")
		}
		select {
		case <-b.Lost():
		default:
			t.Error("who was deposed has not lost")
		}
		d := leads(third)
		if b.Err() == nil || b.Resign(t.Context()) != nil || e.Leader("jobs") != "d" {
			t.Errorf("after a loss: %v, %s leads; want an error and d", b.Err(), e.Leader("jobs"))
		}
		if first.Fence() >= b.Fence() || b.Fence() >= d.Fence() {
			t.Errorf("fences %d, %d, %d do not grow", first.Fence(), b.Fence(), d.Fence())
		}
		if err := errors.Join(d.Resign(t.Context()), other.Resign(t.Context())); err != nil {
			t.Error(err)
		}
		if len(e.queues) != 0 {
			t.Errorf("%d queues are left", len(e.queues))
		}
	})
}

func TestCampaignEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewElector()
		first, err := e.Campaign(t.Context(), "jobs", "a")
		if err != nil {
			t.Fatal(err)
		}
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(enough)
		if _, err := e.Campaign(ctx, "jobs", "b"); !errors.Is(err, enough) {
			t.Errorf("err = %v, want the cause", err)
		}
		if err := first.Resign(t.Context()); err != nil || e.Leader("jobs") != "" {
			t.Errorf("err = %v, %q leads", err, e.Leader("jobs"))
		}
	})
}
