package trace

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// DefaultSample is the share of new traces that are sampled.
const DefaultSample = 1.0

// Config says who records spans and where they go.
type Config struct {
	// Service, Version and Instance name the process in its spans.
	Service, Version, Instance string
	// Endpoint is where spans are sent, as a URL: "http://host:4318" or
	// "https://host:4318" for OTLP over HTTP (path /v1/traces unless the URL
	// has one), "grpc://host:4317" for OTLP over plaintext gRPC and
	// "grpcs://host:4317" with TLS. A user or a password in it is an error. "" records and sends nothing. What it does
	// not say, such as headers, the exporters take from OpenTelemetry's own
	// variables (OTEL_EXPORTER_OTLP_HEADERS).
	Endpoint string
	// Sample is the share of new traces that are sampled, 0 to 1. Zero means
	// none; a trace that a caller started keeps the caller's decision.
	Sample float64
	// OnError is told of spans that could not be sent, from the goroutine that
	// sends. Nil passes over them.
	OnError func(error)
}

// Tracer starts spans for one process.
type Tracer struct {
	provider oteltrace.TracerProvider
	tracer   oteltrace.Tracer
	sdk      *sdktrace.TracerProvider // nil where nothing is exported
	queue    sdktrace.SpanProcessor   // of the sdk
	exporter *exporter                // at the end of the queue
	sample   atomic.Uint64            // upper bound of the trace IDs' low 63 bits that are sampled
}

// New builds a tracer. It errs on an endpoint that cannot be one; it does not
// connect, so a collector that is down is no error.
func New(cfg Config) (*Tracer, error) {
	t := &Tracer{}
	if err := t.SetSample(cfg.Sample); err != nil {
		return nil, err
	}
	if cfg.Endpoint == "" {
		t.provider = noop.NewTracerProvider()
	} else {
		otlp, err := newExporter(cfg.Endpoint)
		if err != nil {
			return nil, err
		}
		t.exporter = &exporter{SpanExporter: otlp, report: cfg.OnError}
		t.exporter.alive, t.exporter.abort = context.WithCancel(context.Background())
		t.queue = sdktrace.NewBatchSpanProcessor(t.exporter, sdktrace.WithBatchTimeout(time.Second))
		t.sdk = sdktrace.NewTracerProvider(
			sdktrace.WithSpanProcessor(t.queue),
			sdktrace.WithIDGenerator(ids{}),
			// A call's sampling is decided in Begin. What reaches the SDK
			// without a parent is a span that a service started by itself.
			sdktrace.WithSampler(sdktrace.ParentBased(rootSampler{t})),
			sdktrace.WithResource(resource.NewSchemaless(
				attribute.String("service.name", cfg.Service),
				attribute.String("service.version", cfg.Version),
				attribute.String("service.instance.id", cfg.Instance),
			)),
		)
		t.provider = t.sdk
	}
	t.tracer = t.provider.Tracer("plinth.internal/trace")
	return t, nil
}

// Provider is the OpenTelemetry provider, for libraries that take one.
func (t *Tracer) Provider() oteltrace.TracerProvider { return t.provider }

// SetSample changes the share of new traces that are sampled, 0 to 1, at run
// time.
func (t *Tracer) SetSample(share float64) error {
	if math.IsNaN(share) || share < 0 || share > 1 {
		return fmt.Errorf("set trace sampling: %v is not a share between 0 and 1", share)
	}
	t.sample.Store(uint64(share * (1 << 63)))
	return nil
}

// Shutdown sends what is still queued, as long as ctx allows, and stops. It may
// be called more than once.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if t.sdk == nil {
		return nil
	}
	// The queue would finish what it is about in its own time.
	defer t.exporter.abort()
	defer context.AfterFunc(ctx, t.exporter.abort)()
	err := t.sdk.Shutdown(ctx)
	if err != nil {
		// The SDK does not stop its queue where ctx has ended before.
		_ = t.queue.Shutdown(ctx) // the same error
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

// Named is what a span can be called after.
type Named interface {
	// FullMethod names the operation without its parameters.
	FullMethod() string
}

// Begin starts the part of a trace that a call is: as a child of parent where
// that has a span ID, under the parent's trace ID where it has only that, else
// as a new trace. The returned context carries the trace. The span is nil where
// none is recorded; else the caller ends it.
func (t *Tracer) Begin(ctx context.Context, parent oteltrace.SpanContext, kind oteltrace.SpanKind, name Named) (context.Context, oteltrace.Span) {
	traceID := parent.TraceID()
	if !traceID.IsValid() {
		traceID = newTraceID()
	}
	sampled := parent.IsSampled()
	if !parent.HasSpanID() {
		sampled = t.samples(traceID)
	}
	if sampled && t.sdk != nil {
		start := oteltrace.ContextWithSpanContext(ctx, parent)
		if !parent.HasSpanID() {
			start = context.WithValue(oteltrace.ContextWithSpanContext(ctx, oteltrace.SpanContext{}), traceIDKey{}, traceID)
		}
		_, span := t.tracer.Start(start, name.FullMethod(), oteltrace.WithSpanKind(kind)) //nolint:spancheck // the caller ends it
		// Not the context that Start returns: a new trace that somebody starts
		// below this call must not find the call's trace ID.
		return oteltrace.ContextWithSpan(ctx, span), span //nolint:spancheck // likewise
	}
	cfg := oteltrace.SpanContextConfig{TraceID: traceID, SpanID: newSpanID(), TraceState: parent.TraceState()}
	if sampled {
		cfg.TraceFlags = oteltrace.FlagsSampled
	}
	return withSpanContext(ctx, oteltrace.NewSpanContext(cfg)), nil
}

// samples decides on the low bits of the trace ID, so that all services with
// the same share decide alike.
func (t *Tracer) samples(id oteltrace.TraceID) bool {
	return binary.BigEndian.Uint64(id[8:])>>1 < t.sample.Load()
}

// rootSampler decides for spans without a parent that did not come through
// Begin, and lets Begin's own decision stand.
type rootSampler struct{ t *Tracer }

func (s rootSampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	_, decided := p.ParentContext.Value(traceIDKey{}).(oteltrace.TraceID)
	if decided || s.t.samples(p.TraceID) {
		return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
	}
	return sdktrace.SamplingResult{Decision: sdktrace.Drop}
}

func (rootSampler) Description() string { return "plinth" }

// traceIDKey carries the trace ID that a root span must have to the SDK.
type traceIDKey struct{}

// ids makes the SDK use the caller's trace ID for a root span.
type ids struct{}

func (ids) NewIDs(ctx context.Context) (oteltrace.TraceID, oteltrace.SpanID) {
	if id, ok := ctx.Value(traceIDKey{}).(oteltrace.TraceID); ok {
		return id, newSpanID()
	}
	return newTraceID(), newSpanID()
}

func (ids) NewSpanID(context.Context, oteltrace.TraceID) oteltrace.SpanID { return newSpanID() }

func newExporter(endpoint string) (sdktrace.SpanExporter, error) {
	u, err := url.Parse(endpoint)
	if err == nil && u.User != nil || err != nil && strings.Contains(endpoint, "@") {
		return nil, errors.New("open trace exporter: the endpoint has a user or a password in it, which would be shown with the rest of it; " +
			"give the exporter its headers in OTEL_EXPORTER_OTLP_HEADERS instead")
	}
	if err := checkEndpoint(u, err); err != nil {
		return nil, fmt.Errorf("open trace exporter: endpoint %q %w", endpoint, err)
	}
	ctx := context.Background() // neither exporter dials here
	switch u.Scheme {
	case "http", "https":
		opts := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(endpoint)}
		if u.Path == "" || u.Path == "/" {
			opts = append(opts, otlptracehttp.WithURLPath("/v1/traces"))
		}
		return otlptracehttp.New(ctx, opts...)
	case "grpc":
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(u.Host), otlptracegrpc.WithInsecure())
	default: // grpcs
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(u.Host))
	}
}

// CheckEndpoint returns what is wrong with a [Config.Endpoint] that is not empty, as a
// text that completes the sentence "the endpoint …"; nil for nothing. That it has no
// user and no password is for [New] to say.
func CheckEndpoint(endpoint string) error { return checkEndpoint(url.Parse(endpoint)) }

func checkEndpoint(u *url.URL, err error) error {
	if err != nil || u.Hostname() == "" {
		return errors.New("is not a URL such as http://host:4318 or grpc://host:4317")
	}
	switch u.Scheme {
	case "http", "https", "grpc", "grpcs":
	default:
		return fmt.Errorf("has scheme %q, want http, https, grpc or grpcs", u.Scheme)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("has port %s, want one from 1 to 65535", port)
		}
	}
	return nil
}

// exporter tells of failed exports, which the SDK would hand to a process-wide
// handler, and can be aborted.
type exporter struct {
	sdktrace.SpanExporter

	report func(error)     // nil for nobody
	alive  context.Context // ends what is being sent
	abort  context.CancelFunc
}

// ExportSpans sends spans. It never errs.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.alive, cancel)()
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil && e.report != nil {
		e.report(fmt.Errorf("send %d spans: %w", len(spans), err))
	}
	return nil
}
