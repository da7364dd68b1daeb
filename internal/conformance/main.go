// Command conformance is what the connect conformance suite tests of Plinth: a
// server that serves the suite's service, and a client that makes the suite's
// calls. Both are apps of package framework with everything that an app puts
// around a call: tracing, logs, metrics, recovery, deadlines and load reports on
// the server; retries, ejection, breaker and balancing on the client.
//
// The suite's runner, connectconformance, starts it and talks to it over its
// standard input and output:
//
//	connectconformance --mode server --conf testdata/config.yaml -- conformance -mode server
//
// With -bare the same service and the same calls run over plain grpc-go, which
// tells what is Plinth's doing and what is grpc-go's.
//
// The server drains and ends at SIGTERM or SIGINT; the client ends with its
// input, or at once at a signal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"plinth.internal/framework"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) //nolint:forbidigo // the one exit
}

func run(args []string, in io.Reader, out, errs io.Writer) int {
	err := adapt(context.Background(), args, in, out, errs)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2 // the flag set has said why
	}
	fmt.Fprintln(errs, "conformance:", err)
	return 1
}

var errUsage = errors.New("wrong use")

func adapt(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) error {
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.SetOutput(errs)
	mode := flags.String("mode", "", "`what` to be: server or client")
	bare := flags.Bool("bare", false, "use plain grpc-go in place of Plinth")
	verbose := flags.Bool("v", false, "write Plinth's log to standard error")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("read arguments: %q is none of the flags; see -help", flags.Arg(0))
	}
	logs := io.Discard
	if *verbose {
		logs = errs
	}
	switch *mode {
	case "server":
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
		defer stop()
		if *bare {
			return runServer(ctx, in, out, bareServer)
		}
		return runServer(ctx, in, out, plinthServer(logs))
	case "client":
		dial := dialBare
		if !*bare {
			dial = dialPlinth(logs)
		}
		return runClient(ctx, in, out, dial)
	}
	return fmt.Errorf("read flags: -mode is %q, want server or client", *mode)
}

// settings are those of both apps. Nothing of the machine is read, and each app
// listens on a port of its own.
func settings(logs io.Writer) []framework.Option {
	return []framework.Option{
		framework.WithConfigFile(""),
		framework.WithEnviron(nil),
		framework.WithLogOutput(logs),
		framework.WithSetting("telemetry.log.format", "json"),
		framework.WithSetting("registry.snapshot_dir", "off"),
		framework.WithSetting("server.admin.addr", ""),
		framework.WithSetting("server.drain.delay", "0s"),   // the runner has made its calls
		framework.WithSetting("server.drain.timeout", "3s"), // it waits for 5 s
	}
}
