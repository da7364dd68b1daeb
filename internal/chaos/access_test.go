//go:build linux

package chaos_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry/etcd"
)

// testTokenExpired lets the login of everybody run out, many times over. The
// tokens are JWT, which no use of them prolongs.
func testTokenExpired(t *testing.T) {
	life := pick(10*time.Second, 3*time.Second)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("not a secret ", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	// Passwords are as cheap to check as can be, because everybody logs in all
	// the time here.
	n := startEtcd(t, newHost(), "--bcrypt-cost=4", fmt.Sprintf("--auth-token=jwt,sign-method=HS256,priv-key=%s,ttl=%v", secret, life))
	setUp := dial(t, etcd.Config{Endpoints: []string{n.endpoint()}})
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(setUp.RoleAdd(ctx, "services"))
	must(setUp.RoleGrantPermission(ctx, "services", "/plinth/", clientv3.GetPrefixRangeEnd("/plinth/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	must(setUp.UserAdd(ctx, "service", "pw-service"))
	must(setUp.UserGrantRole(ctx, "service", "services"))
	must(setUp.UserAdd(ctx, "root", "pw-root"))
	must(setUp.UserGrantRole(ctx, "root", "root"))
	must(setUp.AuthEnable(ctx))

	w := newWorld(t, []string{n.endpoint()}, func(o *worldOptions) {
		o.access = etcd.Config{Username: "service", Password: "pw-service"}
		o.admin = etcd.Config{Username: "root", Password: "pw-root"}
		o.env = []string{"PLINTH_REGISTRY_PASSWORD=pw-service"}
		o.settings = []string{"registry.username=service"}
	})
	begun := time.Now()
	pass(t, 4*life)
	w.finish(row{scenario: fmt.Sprintf("tokens expire every %v", life), back: w.keysBack(begun), change: w.changeSeen()})
}

// testNoSpace fills etcd until it takes no more writes. Leases can still be
// renewed then, and keys deleted.
func testNoSpace(t *testing.T) {
	n := startEtcd(t, newHost(), "--quota-backend-bytes=4194304")
	w := newWorld(t, []string{n.endpoint()})
	for i := 0; ; i++ {
		_, err := w.admin.Put(t.Context(), fmt.Sprintf("/other/%d", i), strings.Repeat("x", 256<<10))
		if errors.Is(err, rpctypes.ErrNoSpace) {
			break
		}
		if err != nil || i > 100 {
			t.Fatalf("fill etcd, put %d: %v", i, err)
		}
	}
	begun := time.Now()
	newcomer := w.startService()
	back := w.keysBack(begun)

	w.watcher.expect(w.ids[0], w.ids[1])
	w.services[2].terminate()
	gone := w.ids[2]
	w.ids = w.ids[:2]
	eventually(t, 20*time.Second, "the instance that stopped while etcd was full is gone", func() error {
		if w.watcher.has(gone) == nil {
			return errors.New("it is listed")
		}
		return nil
	})

	if _, err := w.admin.Delete(t.Context(), "/other/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	status, err := w.admin.Status(t.Context(), n.endpoint())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin.Compact(t.Context(), status.Header.GetRevision(), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin.Defragment(t.Context(), n.endpoint()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	freed := time.Now()
	id := w.idsOf([]*process{newcomer})[0]
	// Nothing tells that there is room again: it is found out by trying, every
	// five seconds at most.
	if took := time.Since(freed); took > patience(6*time.Second) {
		t.Errorf("an instance that came while etcd was full registered %v after there was room, want at most 6s", took)
	}
	eventually(t, changesWithin, "the client sees it", func() error { return w.watcher.has(id) })
	w.finish(row{scenario: "disk quota used up (NOSPACE)", back: back, change: w.changeSeen()})
}
