package framework

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"testing"

	"plinth.internal/client"
	"plinth.internal/config"
	"plinth.internal/middleware/auth"
	"plinth.internal/middleware/limit"
	"plinth.internal/registry"
	"plinth.internal/server"
)

// TestEveryEventIsRendered builds one event of every type that the sources
// declare, so that a new one cannot be forgotten in the log.
func TestEveryEventIsRendered(t *testing.T) {
	err := errors.New("cause")
	for dir, events := range map[string][]Event{
		".": {
			Listening{}, Waiting{err}, Ready{}, Unregistered{}, SnapshotsOff{err}, CheckChanged{}, HeartbeatStuck{}, HandlerPanicked{}, GoroutineFailed{Err: err},
			SpansLost{err}, Stopping{}, PhaseEnded{}, PhaseEnded{Late: &LateCalls{}}, DumpKept{Err: err}, Stopped{},
			LeadershipChanged{}, LeadershipChanged{Leading: true}, CampaignFailed{Err: err}, JobRan{}, JobRan{Stack: []byte{}, Err: err},
			GoroutineFailed{Err: err, Stack: []byte{}, Policy: RestartNever}, GoroutineFailed{Err: err, Policy: StopOnFailure}, FaultsChanged{},
			RegistryEvent{registry.AnnouncementChanged{}}, ClientEvent{client.ViewChanged{}}, ConfigEvent{config.Applied{}},
			ServerEvent{server.TLSRejected{Err: err}}, Unprotected{}, AuthOff{}, MethodUnserved{}, SettingsIdle{}, AuthEvent{auth.KeysChanged{}}, LimitEvent{limit.SheddingBegan{}},
		},
		"../middleware/limit": {LimitEvent{limit.SheddingBegan{}}, LimitEvent{limit.SheddingEnded{}}, LimitEvent{limit.CallerLimited{}}},
		"../middleware/auth":  {AuthEvent{auth.KeysChanged{}}, AuthEvent{auth.KeysFailed{Err: err}}},
		"../server": {
			ServerEvent{server.TLSReloaded{}}, ServerEvent{server.TLSRejected{Err: err}}, ServerEvent{server.TLSRejected{Err: err, Kept: true}}, ServerEvent{server.TLSRefused{Err: err}}, ServerEvent{server.TLSPlain{}},
		},
		"../config": {
			ConfigEvent{config.Applied{}}, ConfigEvent{config.Rejected{Err: err}}, ConfigEvent{config.RestartNeeded{}},
			ConfigEvent{config.FellBack{Err: err}}, ConfigEvent{config.SnapshotRejected{Err: err}}, ConfigEvent{config.SnapshotFailed{Err: err}},
		},
		"../registry": {
			RegistryEvent{registry.AnnouncementChanged{Err: err}}, RegistryEvent{registry.WatchFailed{Err: err}},
			RegistryEvent{registry.WatchRecovered{}}, RegistryEvent{registry.EntrySkipped{Err: err}},
			RegistryEvent{registry.OverrideChanged{Err: err}}, RegistryEvent{registry.OverrideChanged{}},
			RegistryEvent{registry.OverrideChanged{Override: &registry.Override{}}}, RegistryEvent{registry.InstancesLapsed{}},
			RegistryEvent{registry.InstanceDropped{Err: err}}, RegistryEvent{registry.MassLapse{}},
			RegistryEvent{registry.SnapshotRejected{Err: err}}, RegistryEvent{registry.SnapshotFailed{Err: err}},
		},
		"../client": {
			ClientEvent{client.ViewChanged{}}, ClientEvent{client.ViewFailed{Err: err}}, ClientEvent{client.CallRetried{Err: err}},
			ClientEvent{client.LastResort{}}, ClientEvent{client.CallGaveUp{Err: err}}, ClientEvent{client.CallFailed{Err: err}}, ClientEvent{client.CallRejected{Err: &client.BreakerError{}}},
			ClientEvent{client.CallUnplaced{Err: err}}, ClientEvent{client.CallBounced{}}, ClientEvent{client.CallHedged{}}, ClientEvent{client.InstanceEjected{}}, ClientEvent{client.RouteFellBack{}}, ClientEvent{client.InstanceReturned{}},
			ClientEvent{client.ConnectionFailed{Err: err}}, ClientEvent{client.MiddlewarePanicked{Value: err}}, ClientEvent{client.TokenExposed{}}, ClientEvent{client.TokenRejected{Err: err}},
			ClientEvent{client.TLSReloaded{}}, ClientEvent{client.TLSRejected{Err: err}}, ClientEvent{client.TLSRejected{Err: err, Kept: true}},
		},
	} {
		rendered := map[string]bool{}
		for _, e := range events {
			name := reflect.TypeOf(e).Name()
			switch inner := e.(type) {
			case RegistryEvent:
				if dir != "." {
					name = reflect.TypeOf(inner.Event).Name()
				}
			case ClientEvent:
				if dir != "." {
					name = reflect.TypeOf(inner.Event).Name()
				}
			case ServerEvent:
				if dir != "." {
					name = reflect.TypeOf(inner.Event).Name()
				}
			case LimitEvent:
				if dir != "." {
					name = reflect.TypeOf(inner.Event).Name()
				}
			case AuthEvent:
				if dir != "." {
					name = reflect.TypeOf(inner.Event).Name()
				}
			case ConfigEvent:
				if dir != "." {
					name = reflect.TypeOf(inner.Event).Name()
				}
			}
			rendered[name] = true
			if describe(e) == "" {
				t.Errorf("%s: %s has no message", dir, name)
			}
			_ = levelOf(e)
			_ = fieldsOf(e)
		}
		for _, name := range declaredEvents(t, dir) {
			if !rendered[name] {
				t.Errorf("%s: %s is declared but not in this test; render it and add it here", dir, name)
			}
		}
	}
}

// declaredEvents are the types in a package's event.go with the method that
// makes them events.
func declaredEvents(t *testing.T, dir string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), dir+"/event.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "event" && f.Recv != nil {
			names = append(names, f.Recv.List[0].Type.(*ast.Ident).Name)
		}
	}
	if len(names) < 2 {
		t.Fatalf("%s: found only %q", dir, names)
	}
	return names
}
