package etcd

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry"
)

// grant is one line of docs/etcd.md.
var grant = regexp.MustCompile(`(?m)^etcdctl role grant-permission (\S+) (--prefix=true )?(read|write|readwrite) (\S+)$`)

// documentedRoles makes the roles that docs/etcd.md lists, from its own lines,
// and a user with the name of each.
func documentedRoles(t *testing.T, root *clientv3.Client) {
	t.Helper()
	text, err := os.ReadFile("../../docs/etcd.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := grant.FindAllStringSubmatch(string(text), -1)
	if n := strings.Count(string(text), "role grant-permission"); n == 0 || n != len(lines) {
		t.Fatalf("docs/etcd.md grants %d permissions, of which %d are understood", n, len(lines))
	}
	kinds := map[string]clientv3.PermissionType{
		"read":      clientv3.PermissionType(clientv3.PermRead),
		"write":     clientv3.PermissionType(clientv3.PermWrite),
		"readwrite": clientv3.PermissionType(clientv3.PermReadWrite),
	}
	made := map[string]bool{}
	ctx := t.Context()
	for _, line := range lines {
		role, key, end := line[1], line[4], ""
		if line[2] != "" {
			end = clientv3.GetPrefixRangeEnd(key)
		}
		var errs []error
		if !made[role] {
			made[role] = true
			_, add := root.RoleAdd(ctx, role)
			_, user := root.UserAdd(ctx, role, "secret")
			_, give := root.UserGrantRole(ctx, role, role)
			errs = append(errs, add, user, give)
		}
		_, err := root.RoleGrantPermission(ctx, role, key, end, kinds[line[3]])
		if err := errors.Join(append(errs, err)...); err != nil {
			t.Fatalf("%s: %v", line[0], err)
		}
	}
}

// The documented role of a service lets it announce itself, watch everybody,
// be overridden, and nothing else; that of an operator lets him do his part.
func TestDocumentedRolesAreEnough(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	plain := s.dial(Config{})
	documentedRoles(t, plain)
	enableAuth(t, plain)
	service := s.dial(Config{Username: "orders", Password: "secret"})
	operator := s.dial(Config{Username: "operator", Password: "secret"})
	root := s.dial(Config{Username: "root", Password: "secret"})

	reg := Open(service)
	defer reg.Close()
	seen := follow(t, reg)
	if err := reg.Announce(t.Context(), testInstance()); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "own list", func() bool { return seen.present("o-1") && reg.Status().Err == nil })
	write(t, operator, overrideKey(DefaultNamespace, "orders", "o-1"), []byte(`{"weight":77}`))
	within(t, 5*time.Second, "override", func() bool {
		snapshot, err := seen.load()
		return err == nil && len(snapshot.Instances) == 1 && snapshot.Instances[0].Weight == 77
	})
	if got, err := operator.Get(t.Context(), servicesPrefix(DefaultNamespace), clientv3.WithPrefix()); err != nil || len(got.Kvs) != 1 {
		t.Errorf("the operator sees %v, %v; want the instance", got, err)
	}
	// Another service's list, by the service's own watch.
	write(t, root, instanceKey(DefaultNamespace, "billing", "b-1"), []byte(`{"endpoints":{"grpc":"h:1"}}`))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for snapshot, err := range reg.Watch(ctx, "billing") {
		if err == nil && len(snapshot.Instances) == 1 {
			break
		}
		t.Errorf("watch of another service: %+v, %v", snapshot, err)
	}
	for _, key := range []string{"/plinth/config/default", "/plinth/config/orders"} {
		if _, err := service.Get(t.Context(), key); err != nil {
			t.Errorf("read %s: %v", key, err)
		}
	}

	elector := NewElector(service)
	defer elector.Close()
	leader, err := elector.Campaign(t.Context(), testElection, "o-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Resign(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := elector.Campaign(t.Context(), "billing/reports", "o-1"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("it stands for a job of another service: %v, want permission denied", err)
	}

	// What it must not.
	for _, key := range []string{
		instanceKey(DefaultNamespace, "billing", "b-1"),
		instanceKey(DefaultNamespace, "orders-archive", "o-1"),
		overrideKey(DefaultNamespace, "billing", "b-1"),
		"/plinth/config/default", "/plinth/config/orders", "/plinth/config/billing", "/other",
	} {
		if _, err := service.Put(t.Context(), key, "x"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("the service writes %s: %v, want permission denied", key, err)
		}
		if _, err := service.Delete(t.Context(), key); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("the service deletes %s: %v, want permission denied", key, err)
		}
	}
	for _, key := range []string{overrideKey(DefaultNamespace, "billing", "b-1"), "/plinth/config/billing", "/other"} {
		if _, err := service.Get(t.Context(), key); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("the service reads %s: %v, want permission denied", key, err)
		}
	}
	if _, err := operator.Put(t.Context(), instanceKey(DefaultNamespace, "orders", "o-1"), "x"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("the operator writes an instance: %v, want permission denied", err)
	}

	// The error of one who lacks the role says where to look.
	billing := testInstance()
	billing.ID, billing.Service = "b-2", "billing"
	foreign := Open(service, WithRegistry(registry.WithTTL(registry.MinTTL)))
	defer foreign.Close()
	if err := foreign.Announce(t.Context(), billing); err != nil {
		t.Fatal(err)
	}
	if err := foreign.Status().Err; err == nil || !strings.Contains(err.Error(), `etcd does not allow that to user "orders", grant its role what docs/etcd.md lists`) {
		t.Errorf("error of another service's announcement: %v", err)
	}

	// It leaves nothing behind.
	if err := reg.Withdraw(t.Context(), "o-1"); err != nil {
		t.Errorf("Withdraw: %v", err)
	}
	for _, key := range []string{instanceKey(DefaultNamespace, "orders", ""), overrideKey(DefaultNamespace, "orders", "")} {
		if got, err := root.Get(t.Context(), key, clientv3.WithPrefix()); err != nil || len(got.Kvs) > 0 {
			t.Errorf("left behind: %v, %v", got, err)
		}
	}
}
