package health

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// SQL pings a database. Where the pool has a limit and all its connections are
// in use the error says so: then it may be the pool that is too small.
func SQL(db *sql.DB) Func {
	return func(ctx context.Context) error {
		if db == nil {
			return errors.New("ping database: the *sql.DB is nil")
		}
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		if s := db.Stats(); s.MaxOpenConnections > 0 && s.InUse >= s.MaxOpenConnections {
			return fmt.Errorf("ping database (%T): all %d connections of the pool are in use: %w", db.Driver(), s.InUse, err)
		}
		return fmt.Errorf("ping database (%T): %w", db.Driver(), err)
	}
}

// Pinger is anything that can be asked whether it is there.
type Pinger interface {
	Ping(ctx context.Context) error
}

// Ping asks a client of a store, a cache or a queue whether that is there.
func Ping(p Pinger) Func {
	return func(ctx context.Context) error {
		if p == nil {
			return errors.New("ping: the client is nil")
		}
		if err := p.Ping(ctx); err != nil {
			return fmt.Errorf("ping (%T): %w", p, err)
		}
		return nil
	}
}

// Redis is [Ping] for clients whose Ping returns a command that knows its error,
// as those of go-redis do:
//
//	s.Check("cache", health.Redis(rdb.Ping))
func Redis[C interface{ Err() error }](ping func(context.Context) C) Func {
	return func(ctx context.Context) error {
		if ping == nil {
			return errors.New("ping: the function is nil")
		}
		if err := ping(ctx).Err(); err != nil {
			return fmt.Errorf("ping: %w", err)
		}
		return nil
	}
}

// DiskSpace fails while the file system that path is on has less than minFree
// bytes for this user. It works on Linux, macOS and FreeBSD; elsewhere it fails
// always. A path that does not exist fails, too.
func DiskSpace(path string, minFree uint64) Func {
	return func(context.Context) error {
		free, err := freeBytes(path)
		if err != nil {
			return fmt.Errorf("look for space at %s: %w", path, err)
		}
		if free < minFree {
			return fmt.Errorf("%s has %s free, %s is wanted", path, binary(free), binary(minFree))
		}
		return nil
	}
}

// binary is a number of bytes for people.
func binary(n uint64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/(1<<10), 0
	for v >= 1<<10 && i < len(units)-1 {
		v, i = v/(1<<10), i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}
