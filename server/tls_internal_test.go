package server

import (
	"testing"
	"time"
)

// TestRefusalsAreBounded: one event at once, the next after the pause, with what
// came meanwhile counted; another reason has a pause of its own.
func TestRefusalsAreBounded(t *testing.T) {
	var r refusals
	now := time.Now()
	for i := range 5 {
		if _, told := r.add(now, TLSRefused{Reason: RefusedPlain}); told != (i == 0) {
			t.Errorf("refusal %d: told %v", i, told)
		}
	}
	if _, told := r.add(now, TLSRefused{Reason: RefusedExpired}); !told {
		t.Error("another reason was held back")
	}
	if due := r.due(now.Add(refusalPause - 1)); len(due) != 0 {
		t.Errorf("before the pause is over: %v", due)
	}
	if due := r.due(now.Add(refusalPause)); len(due) != 1 || due[0].Times != 4 || due[0].Reason != RefusedPlain {
		t.Errorf("after it: %+v, want 4 plain ones", due)
	}
	if due := r.due(now.Add(5 * refusalPause)); len(due) != 0 {
		t.Errorf("with nothing new: %v", due)
	}
}
