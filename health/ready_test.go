package health_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"plinth.internal/health"
)

// fakeDB is a database that can be out of reach.
type fakeDB struct{ err error }

func (f *fakeDB) Connect(context.Context) (driver.Conn, error) { return &fakeConn{db: f}, f.err }
func (f *fakeDB) Driver() driver.Driver                        { return fakeDriver{} }

type fakeDriver struct{}

func (fakeDriver) Open(string) (driver.Conn, error) { return nil, errors.New("not used") }

type fakeConn struct {
	driver.Conn

	db *fakeDB
}

func (c *fakeConn) Ping(context.Context) error { return c.db.err }
func (*fakeConn) Close() error                 { return nil }

func TestSQL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &fakeDB{}
		db := sql.OpenDB(fake)
		defer db.Close()
		db.SetMaxOpenConns(1)
		h := health.New()
		add(t, h, "db", health.SQL(db), health.FailureThreshold(1))
		want := func(want ...string) {
			t.Helper()
			_ = h.Check(t.Context())
			checkError(t, result(t, h, "db"), want)
		}
		want()
		fake.err = errors.New("dial tcp 10.0.0.7:5432: connection refused")
		want("ping database (health_test.fakeDriver): dial tcp 10.0.0.7:5432: connection refused")
		fake.err = nil
		want()
		busy, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want("all 1 connections of the pool are in use", "no answer within 2s")
		busy.Close()
		want()
		add(t, h, "nil", health.SQL(nil))
		_ = h.Check(t.Context())
		checkError(t, result(t, h, "nil"), []string{"the *sql.DB is nil"})
	})
}

// store is a client whose Ping returns an error.
type store struct{ err error }

func (s *store) Ping(ctx context.Context) error { return errors.Join(s.err, ctx.Err()) }

// redisClient has the Ping of go-redis.
type redisClient struct{ err error }

type statusCmd struct{ err error }

func (c *statusCmd) Err() error { return c.err }

func (c *redisClient) Ping(ctx context.Context) *statusCmd {
	return &statusCmd{errors.Join(c.err, ctx.Err())}
}

func TestPing(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for name, tc := range map[string]struct {
		fn   health.Func
		want []string
	}{
		"well":        {health.Ping(&store{}), nil},
		"fails":       {health.Ping(&store{refused}), []string{"ping (*health_test.store): dial tcp: connection refused"}},
		"nil":         {health.Ping(nil), []string{"the client is nil"}},
		"redis well":  {health.Redis((&redisClient{}).Ping), nil},
		"redis fails": {health.Redis((&redisClient{refused}).Ping), []string{"ping: dial tcp: connection refused"}},
		"redis nil":   {health.Redis[*statusCmd](nil), []string{"the function is nil"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := health.New()
			add(t, h, "it", tc.fn)
			_ = h.Check(t.Context())
			checkError(t, result(t, h, "it"), tc.want)
		})
	}
}

func TestDiskSpace(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		path string
		min  uint64
		want []string
	}{
		"enough":   {dir, 1, nil},
		"too much": {dir, 1 << 62, []string{dir + " has ", " free, 4.0 EiB is wanted"}},
		"nowhere":  {filepath.Join(dir, "none"), 1, []string{"look for space at " + dir, "no such file"}},
	} {
		err := health.DiskSpace(tc.path, tc.min)(t.Context())
		if (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q", name, err, w)
			}
		}
	}
}
