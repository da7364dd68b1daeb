package framework_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/health"
	"plinth.internal/log"
	"plinth.internal/trace"
)

func TestMain(m *testing.M) {
	if os.Getenv(asService) != "" {
		runService()
	}
	goleak.VerifyTestMain(m)
}

func setupEcho(e echo) framework.Setup {
	return func(_ context.Context, s *framework.Service) error {
		s.RegisterService(&echoDesc, e)
		return nil
	}
}

var plainEcho = echo{say: func(_ context.Context, in string) (string, error) { return in, nil }}

func TestCall(t *testing.T) {
	app := frameworktest.Start(t, "echo", setupEcho(plainEcho))
	got, err := say(t.Context(), app.Conn(), "hello")
	if err != nil || got != "hello" {
		t.Fatalf("Say = %q, %v", got, err)
	}
	doc := app.Health()
	if doc.Status != framework.HealthOK || doc.Registry.State != "registered" || doc.Service != "echo" {
		t.Errorf("health = %+v", doc)
	}
}

// TestOneTraceID follows one trace ID through two services, the response, the
// logs and the exemplars.
func TestOneTraceID(t *testing.T) {
	env := frameworktest.New(t)
	var logs [2]lockedBuffer
	json := framework.WithSetting("telemetry.log.format", "json")
	var seen [2]string
	env.Start("back", setupEcho(echo{say: func(ctx context.Context, in string) (string, error) {
		seen[1] = trace.ID(ctx)
		log.From(ctx).Info("in back")
		return in, nil
	}}), framework.WithLogOutput(&logs[1]), json)
	front := env.Start("front", func(_ context.Context, s *framework.Service) error {
		back, err := s.Client("back")
		if err != nil {
			return err
		}
		s.RegisterService(&echoDesc, echo{say: func(ctx context.Context, in string) (string, error) {
			seen[0] = trace.ID(ctx)
			return say(ctx, back, in)
		}})
		return nil
	}, framework.WithLogOutput(&logs[0]), json)

	const want = "0af7651916cd43dd8448eb211c80319c"
	for _, given := range []string{
		"traceparent: 00-" + want + "-b7ad6b7169203331-01",
		"x-trace-id: " + want,
		"x-trace-id: 0AF76519-16CD-43DD-8448-EB211C80319C",
	} {
		seen = [2]string{}
		key, value, _ := strings.Cut(given, ": ")
		// A bare connection, so that the test's own client adds no trace.
		var header metadata.MD
		ctx := metadata.AppendToOutgoingContext(t.Context(), key, value)
		if _, err := say(ctx, front.Conn(), "x", grpc.Header(&header)); err != nil {
			t.Fatal(err)
		}
		if got := header.Get("x-trace-id"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: response has x-trace-id %q, want %q", given, got, want)
		}
		if seen != [2]string{want, want} {
			t.Errorf("%s: handlers saw %q", given, seen)
		}
	}
	for i, name := range []string{"front", "back"} {
		if n := strings.Count(logs[i].String(), want); n < 3 {
			t.Errorf("%s: trace ID is in %d log lines, want at least 3:\n%s", name, n, logs[i].String())
		}
	}
	if !strings.Contains(logs[1].String(), `"msg":"in back","service":"back"`) {
		t.Errorf("back: log.From did not give the service's logger:\n%s", logs[1].String())
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://admin/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text")
	resp, err := front.Admin().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(body), `# {trace_id="`+want+`"}`) {
		t.Errorf("no exemplar with the trace ID in\n%s", body)
	}
}

func TestPanicIsInternal(t *testing.T) {
	panics := make(chan framework.HandlerPanicked, 1)
	app := frameworktest.Start(t, "echo", setupEcho(echo{say: func(_ context.Context, in string) (string, error) {
		if in == "bad" {
			panic("secret detail")
		}
		return in, nil
	}}), framework.WithEvents(func(e framework.Event) {
		if p, ok := e.(framework.HandlerPanicked); ok {
			panics <- p
		}
	}))
	var trailer metadata.MD
	_, err := say(t.Context(), app.Conn(), "bad", grpc.Trailer(&trailer))
	if status.Code(err) != codes.Internal {
		t.Fatalf("err = %v, want INTERNAL", err)
	}
	id := trailer.Get("x-trace-id")
	if len(id) != 1 || !strings.Contains(err.Error(), id[0]) {
		t.Errorf("error %q does not name the trace ID %q", err, id)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("error %q tells the caller what panicked", err)
	}
	if p := <-panics; p.Value != "secret detail" || !strings.Contains(string(p.Stack), "TestPanicIsInternal") {
		t.Errorf("reported %v with stack\n%s", p.Value, p.Stack)
	}
	if got, err := say(t.Context(), app.Conn(), "good"); err != nil || got != "good" {
		t.Errorf("after the panic: %q, %v", got, err)
	}
}

func TestHTTP(t *testing.T) {
	app := frameworktest.Start(t, "web", func(_ context.Context, s *framework.Service) error {
		s.Handle("GET /items/{id}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "item %s of %s", r.PathValue("id"), trace.ID(r.Context()))
		}))
		s.Handle("GET /panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("x") }))
		return nil
	})
	get := func(path string) (code int, traceID, body string) {
		t.Helper()
		resp, err := app.HTTP().Get("http://web" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("X-Trace-Id"), string(b)
	}
	if code, id, body := get("/items/7"); code != 200 || len(id) != 32 || body != "item 7 of "+id {
		t.Errorf("GET /items/7 = %d %q, x-trace-id %q", code, body, id)
	}
	if code, id, _ := get("/nothing"); code != 404 || id == "" {
		t.Errorf("GET /nothing = %d, x-trace-id %q", code, id)
	}
	if code, id, body := get("/panic"); code != 500 || !strings.Contains(body, id) {
		t.Errorf("GET /panic = %d %q", code, body)
	}
}

func TestStartErrors(t *testing.T) {
	ok := func(context.Context, *framework.Service) error { return nil }
	for _, tc := range []struct {
		name  string
		setup framework.Setup
		opts  []framework.Option
		want  string
	}{
		{"1bad", ok, nil, `"1bad" cannot be the name of a service`},
		{"default", ok, nil, `"default" cannot be the name of a service: it is that of the central configuration`},
		{"nil-setup", nil, nil, "setup function is nil"},
		{"setup-fails", func(context.Context, *framework.Service) error { return errors.New("no database") }, nil, "set up setup-fails: no database"},
		{"setup-panics", func(context.Context, *framework.Service) error { panic("oops") }, nil, "set up setup-panics: panic: oops"},
		{"unknown-key", ok, set("server.grcp.addr", ":1"), "flag --server.grcp.addr: server.grcp.addr: is not a known key, did you mean server.grpc.addr?"},
		{"unknown-env", ok, []framework.Option{framework.WithEnviron([]string{"PLINTH_SERVER_GRCP_ADDR=x"})}, "environment variable PLINTH_SERVER_GRCP_ADDR"},
		{"bad-addr", ok, set("server.grpc.addr", "9000"), `"9000" is not an address to listen on`},
		{"bad-duration", ok, set("server.drain.delay", "5"), `"5" is not a duration`},
		{"bad-level", ok, set("telemetry.log.level", "loud"), `"loud" is none of debug, info, warn, error`},
		{"bad-sample", ok, set("telemetry.trace.sample", "2"), "is not a share between 0 and 1"},
		{"bad-endpoint", ok, set("telemetry.trace.endpoint", "collector"), `telemetry.trace.endpoint: "collector" is not a URL`},
		{"bad-registry", ok, set("registry.kind", "zoo"), `"zoo" is none of etcd, dns, static`},
		{"no-dns-name", ok, set("registry.kind", "dns"), "registry.dns.name: is empty"},
		{"bad-dns-name", ok, append(set("registry.kind", "dns"), set("registry.dns.name", "{service}.local")...), "registry.dns: open dns registry"},
		{"dns-without-kind", ok, set("registry.dns.name", "{service}.local:9000"), "registry.dns: is of no use to the registry static"},
		{"static-file-missing", ok, set("registry.static_file", "/nowhere/instances.yaml"), "registry.static_file: read instances from /nowhere/instances.yaml"},
		{"bad-fallback", ok, append(set("registry.endpoints", "127.0.0.1:1"), set("registry.static.billing", "10.0.0.1")...), `registry.static: read address "10.0.0.1" of service "billing"`},
		{"half-a-certificate", ok, append(set("registry.endpoints", "127.0.0.1:1"), set("registry.tls.cert_file", "c.pem")...), "registry.tls: has one of cert_file and key_file"},
		{"no-user", ok, append(set("registry.endpoints", "127.0.0.1:1"), set("registry.password", "pw")...), `flag --registry.password: registry.password: stands without registry.username; give both or none`},
		{"no-password", ok, append(set("registry.endpoints", "127.0.0.1:1"), set("registry.username", "u")...), `flag --registry.username: registry.username: "u" stands without registry.password; give both or none`},
		{"rate-without-rps", ok, set("server.limit.rate.x.burst", "3"), "flag --server.limit.rate.x.burst: server.limit.rate.x.rps: "},
		{"issuer-without-keys", ok, set("server.auth.issuers.corp.issuer", "https://corp"), "flag --server.auth.issuers.corp.issuer: server.auth.issuers.corp.keys: "},
		{"secret-keys", ok, set("server.auth.issuers.corp.keys", "https://u:pw@idp/keys"), "flag --server.auth.issuers.corp.keys: server.auth.issuers.corp.keys: has a password"},
		{"no-certificate", ok, set("server.tls.mode", "tls"), "flag --server.tls.mode: server.tls.cert_file: is empty"},
		{"no-endpoints", ok, set("registry.kind", "etcd"), "registry.endpoints: is empty"},
		{"twice", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.RegisterService(&echoDesc, plainEcho)
			return nil
		}, nil, "register gRPC service test.v1.Echo: it is registered already"},
		{"wrong-type", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, 7)
			return nil
		}, nil, "int does not implement"},
		{"check-twice", func(_ context.Context, s *framework.Service) error {
			s.Check("db", func(context.Context) error { return nil })
			s.Check("db", func(context.Context) error { return nil })
			return nil
		}, nil, `check "db": the name is taken`},
		{"bad-pattern", func(_ context.Context, s *framework.Service) error {
			s.Handle("GET /{", http.NotFoundHandler())
			return nil
		}, nil, "handle HTTP pattern"},
		{"nil-handler", func(_ context.Context, s *framework.Service) error {
			s.Handle("GET /n", nil)
			return nil
		}, nil, `handle HTTP pattern "GET /n": `},
		{"nil-go", func(_ context.Context, s *framework.Service) error {
			s.Go("n", nil)
			return nil
		}, nil, `start goroutine "n" with Go: the function is nil`},
		{"nil-stop", func(_ context.Context, s *framework.Service) error {
			s.OnStop("n", nil)
			return nil
		}, nil, `add step "n" with OnStop: the function is nil`},
		{"nil-check", func(_ context.Context, s *framework.Service) error {
			s.Check("n", nil)
			return nil
		}, nil, `add health check "n": it needs a name and a function`},
		{"nil-dependency", func(_ context.Context, s *framework.Service) error {
			s.CheckDependency("n", health.Remote{})
			return nil
		}, nil, `add health check "n": it needs a name and a function`},
		{"nil-heartbeat", func(_ context.Context, s *framework.Service) error {
			s.Heartbeat("n", 0)
			return nil
		}, nil, `add heartbeat "n": it needs a name and a longest pause above zero`},
		{"nil-job", func(_ context.Context, s *framework.Service) error {
			s.Job("n", time.Second, nil)
			return nil
		}, nil, "register job n: the function is nil"},
		{"nil-lead", func(_ context.Context, s *framework.Service) error {
			s.Lead("n", nil)
			return nil
		}, nil, "register job n: the function is nil"},
		{"nil-gateway", func(_ context.Context, s *framework.Service) error {
			s.Gateway(nil)
			return nil
		}, nil, "Gateway was given nil"},
		{"no-http", func(_ context.Context, s *framework.Service) error {
			s.Handle("GET /", http.NotFoundHandler())
			return nil
		}, nil, "set server.http.addr"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opts := append([]framework.Option{
				framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()),
				framework.WithSetting("server.admin.addr", "127.0.0.1:0"),
			}, tc.opts...)
			if tc.name != "bad-addr" {
				opts = append(opts, framework.WithSetting("server.grpc.addr", "127.0.0.1:0"))
			}
			app, err := framework.New(tc.name, tc.setup, opts...)
			if err == nil {
				err = app.Run(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want it to say %q", err, tc.want)
			}
		})
	}
}

func set(key, value string) []framework.Option {
	return []framework.Option{framework.WithSetting(key, value)}
}

// TestRouteTwice: a conflict of routes names the two lines that have given them.
func TestRouteTwice(t *testing.T) {
	var lines [2]int
	line := func() int {
		_, _, n, _ := runtime.Caller(1)
		return n
	}
	app, err := framework.New("routes", func(_ context.Context, s *framework.Service) error {
		s.Handle("GET /other", http.NotFoundHandler())
		lines[0] = line() + 1
		s.Handle("GET /x/{id}", http.NotFoundHandler())
		lines[1] = line() + 1
		s.Handle("GET /x/{name}", http.NotFoundHandler())
		return nil
	}, framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()),
		framework.WithSetting("server.grpc.addr", "127.0.0.1:0"), framework.WithSetting("server.http.addr", "127.0.0.1:0"))
	if err == nil {
		err = app.Run(t.Context())
	}
	for _, want := range []string{
		fmt.Sprintf(`framework_test.go:%d: it conflicts with "GET /x/{id}" at `, lines[1]), fmt.Sprintf("framework_test.go:%d: ", lines[0]),
	} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "server/http") {
			t.Errorf("err = %v, want it to say %q", err, want)
		}
	}
}

// TestRegisteredLate: what is registered wrongly after the start is told at the
// stop.
func TestRegisteredLate(t *testing.T) {
	var service *framework.Service
	app := frameworktest.Start(t, "late", func(_ context.Context, s *framework.Service) error {
		service = s
		return nil
	})
	service.OnStop("n", nil)
	if err := app.Stop(); err == nil || !strings.Contains(err.Error(), `add step "n" with OnStop: the function is nil`) {
		t.Errorf("the stop says %v", err)
	}
}
