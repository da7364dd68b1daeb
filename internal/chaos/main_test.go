//go:build linux

package chaos_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/goleak"

	"plinth.internal/framework"
)

var (
	full  = flag.Bool("full", false, "run every scenario at its real length, which takes some minutes")
	steps = flag.Bool("clock", false, "step the wall clocks of processes, too, as -full does; builds the test anew for it, which takes minutes the first time")
	write = flag.Bool("write", false, "write docs/chaos.md or docs/faults.md; only of use with -full")
)

// The test binary plays more parts, each in a process of its own. This
// variable says which.
const (
	roleVariable = "CHAOS_ROLE"
	roleEtcd     = "etcd"
	roleService  = "service"
	roleResolver = "resolver"
	roleWorker   = "worker"
	roleForeign  = "foreign"
	roleCallers  = "callers"
)

// shortParallel is how many scenarios run at once in their short form.
const shortParallel = 8

func TestMain(m *testing.M) {
	// These take commands on their standard input, and end with it themselves.
	switch os.Getenv(roleVariable) {
	case roleWorker:
		serveFleet()
	case roleForeign:
		exit(serveForeign(os.Args[1]))
	case roleCallers:
		exit(callFleet(os.Args[1:]))
	case "":
	default:
		go parted()
	}
	switch os.Getenv(roleVariable) {
	case roleEtcd:
		etcdmain.Main(os.Args)
		exit(0)
	case roleService:
		framework.Run(echoService, func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, echo{func() string { return s.Instance().ID }})
			return nil
		})
		exit(0)
	case roleResolver:
		exit(resolve(os.Args[1:]))
	}
	flag.Parse()
	// The scenarios spend their time waiting, most of all in their full form:
	// one for each core would take an hour.
	atOnce := shortParallel
	switch {
	case *full:
		atOnce = 20
	case raced:
		atOnce = 3
	}
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		exit(2)
	}
	goleak.VerifyTestMain(m)
}

// exit ends a process in which this package plays the main function.
func exit(code int) {
	os.Exit(code) //nolint:forbidigo // as it says
}

// parted ends a process whose test died without a chance to kill it.
func parted() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	exit(3)
}

// pick returns the length of something in the full or in the short form.
func pick(long, short time.Duration) time.Duration {
	if *full {
		return long
	}
	return short
}

// patience returns how long something may take that is promised within d: that
// long, but for the race detector, which shows races and no times.
func patience(d time.Duration) time.Duration {
	if raced {
		return 4 * d
	}
	return d
}

// pass lets time pass: the length of an outage is a part of the scenario.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// eventually asks every ten milliseconds until there is no error, and returns
// how long that took.
func eventually(t *testing.T, within time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	begun := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return time.Since(begun)
		}
		if time.Since(begun) > patience(within) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		<-tick.C
	}
}
