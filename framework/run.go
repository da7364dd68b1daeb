package framework

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"plinth.internal/config"
)

// The exit codes of [Run].
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2   // flags or configuration
	exitSignals = 128 // plus the number of a second signal
)

// sameSignal is how soon after the first one the same signal is taken for it:
// programs such as timeout(1) send it to the process and to its group in one go.
const sameSignal = 20 * time.Millisecond

// Run is a service's main: it reads the command line, runs the app until SIGTERM
// or SIGINT, prints what went wrong to standard error, and ends the process:
// with 0 after a stop in which nothing went wrong, 1 after a failure, 2 for bad
// flags or configuration. A second signal ends the process at once, with 128
// plus its number; the same one within 20 ms is taken for the first, which some
// programs send twice.
//
// Beside the keys of the configuration (--server.grpc.addr=:9001) the command
// line takes --config FILE, --help, --version and --healthcheck, which asks a
// running instance of the same configuration whether it is ready and is meant
// for a container's health check.
//
// It is built from [New], [App.Run] and [WithHeapFloor] alone.
func Run(name string, setup Setup, opts ...Option) {
	os.Exit(run(name, setup, os.Args[1:], os.Stdout, os.Stderr, caught, opts))
}

// caught begins to catch the signals that stop a service, for the rest of the
// process' life: one that comes after the stop and before the exit must not make a
// death of it.
func caught() <-chan os.Signal {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	return signals
}

func run(name string, setup Setup, args []string, stdout, stderr io.Writer, catch func() <-chan os.Signal, opts []Option) int {
	fail := func(code int, err error) int {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			_, _ = fmt.Fprintf(stderr, "%s: %s\n", name, line)
		}
		return code
	}
	flags, err := parseFlags(args)
	if err != nil {
		return fail(exitUsage, err)
	}
	switch flags.command {
	case "help":
		usage(stdout, name)
		return exitOK
	case "version":
		_, _ = fmt.Fprintf(stdout, "%s %s (plinth %s, %s)\n", name, buildVersion(), frameworkVersion(), goVersion())
		return exitOK
	}
	// What asks a running instance needs no file but its configuration: one for
	// TLS that is broken at the moment says nothing about that instance.
	unbuilt := optionFunc(func(o *options) { o.unbuilt = flags.command == "healthcheck" })
	app, err := New(name, setup, slices.Concat([]Option{WithHeapFloor(DefaultHeapFloor)}, opts, flags.options, []Option{unbuilt})...)
	if err != nil {
		return fail(exitCode(err), err)
	}
	if flags.command == "healthcheck" {
		if err := healthcheck(app.settings.Server.Admin.Addr); err != nil {
			return fail(exitFailed, err)
		}
		return exitOK
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := catch()
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	var first os.Signal
	var told time.Time
	for {
		select {
		case err := <-ended:
			if err == nil {
				return exitOK
			}
			return fail(exitCode(err), err)
		case sig := <-signals:
			switch {
			case first == nil:
				first, told = sig, time.Now()
				cancel()
			case sig != first || time.Since(told) >= sameSignal:
				number := 0
				if s, ok := sig.(syscall.Signal); ok {
					number = int(s)
				}
				return fail(exitSignals+number, fmt.Errorf("second signal (%v): ended at once", sig))
			}
		}
	}
}

// exitCode tells a configuration that does not hold, found by the framework or
// by the service's setup, from everything else.
func exitCode(err error) int {
	if _, ok := errors.AsType[*configError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		return exitUsage
	}
	return exitFailed
}

// flagSet is a parsed command line.
type flagSet struct {
	command string // help, version, healthcheck or ""
	options []Option
}

// parseFlags reads --key=value and --key value; one dash will do as well.
func parseFlags(args []string) (flagSet, error) {
	var f flagSet
	for len(args) > 0 {
		first := args[0]
		args = args[1:]
		arg, ok := strings.CutPrefix(first, "-")
		if !ok || arg == "" || arg == "-" {
			return f, fmt.Errorf("argument %q is not a flag; see --help", first)
		}
		key, value, given := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		switch key {
		case "help", "h", "version", "healthcheck":
			if given {
				return f, fmt.Errorf("flag --%s takes no value", key)
			}
			f.command = map[string]string{"h": "help"}[key]
			if f.command == "" {
				f.command = key
			}
			continue
		}
		if !given {
			if len(args) == 0 {
				return f, fmt.Errorf("flag --%s has no value; want --%s=VALUE", key, key)
			}
			value, args = args[0], args[1:]
		}
		if key == "config" {
			if value == "" {
				return f, errors.New("flag --config has no value; want --config=FILE")
			}
			f.options = append(f.options, WithConfigFile(value))
		} else {
			f.options = append(f.options, WithSetting(key, value))
		}
	}
	return f, nil
}

func usage(w io.Writer, name string) {
	var b strings.Builder
	fmt.Fprintf(&b, `Usage: %s [flags]

Flags
  --config FILE    read this file in place of %s
  --KEY=VALUE      set a key of the configuration
  --healthcheck    ask the running instance whether it is ready, and exit
  --version        print the version and exit
  --help           print this and exit

Keys (a file nests them; flags win over the environment, it over the file)
`, name, DefaultConfigFile)
	for _, k := range config.Describe(defaultSettings()) {
		fmt.Fprintf(&b, "  %s", k.Path)
		if k.Default != "" {
			fmt.Fprintf(&b, " (%s)", k.Default)
		}
		if k.Env != "" {
			fmt.Fprintf(&b, "  %s", k.Env)
		}
		fmt.Fprintf(&b, "\n        %s\n", k.Doc)
	}
	_, _ = io.WriteString(w, b.String())
}

// healthcheck asks the admin listener of an instance on this machine.
func healthcheck(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("check health: the admin listener is off (server.admin.addr)")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/health/ready", http.NoBody)
	if err != nil {
		return fmt.Errorf("check health: %w", err)
	}
	resp, err := new(http.Client).Do(req)
	if err != nil {
		return fmt.Errorf("check health: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("check health: not ready (HTTP status %d)", resp.StatusCode)
	}
	return nil
}
