package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"
)

// childEnv holds the order of a process that was started by the bench itself.
const childEnv = "PLINTH_BENCH_CHILD"

// The file that answers go to. Standard output is left to what the contenders
// log, which is a part of what they cost.
const answerFile = 3

const (
	roleServer = "server"
	roleClient = "client"
)

// order is what a process is started for.
type order struct {
	Role      string   `json:"role"`
	Contender string   `json:"contender"`
	Addrs     []string `json:"addrs,omitempty"` // of the servers, for a client
	Profiles  profiles `json:"profiles"`
}

// profiles are the directories that profiles go to, "" for none.
type profiles struct {
	CPU string `json:"cpu,omitempty"`
	Mem string `json:"mem,omitempty"`
}

// request asks a process for something; Op is one of those below.
type request struct {
	Op   string `json:"op"`
	Cell cell   `json:"cell"`
}

const (
	opStart = "start" // make calls
	opBegin = "begin" // measure from now on
	opEnd   = "end"   // and no longer
	opStop  = "stop"  // no more calls
)

// answer is what a process says to a request, and once when it is ready.
type answer struct {
	Addrs  []string `json:"addrs,omitempty"` // of the servers
	Usage  usage    `json:"usage"`
	Result result   `json:"result"`
	Err    string   `json:"err,omitempty"`
}

// result is what a client has seen.
type result struct {
	Calls uint64        `json:"calls"`
	Fails int           `json:"fails"`
	First string        `json:"first,omitempty"` // of the errors
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
	P999  time.Duration `json:"p999"`
}

// child is the main function of a process that the bench has started; it ends
// when its standard input does.
func child(text string) int {
	if err := serveOrders(text); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", text, err)
		return 1
	}
	return 0
}

func serveOrders(text string) (err error) {
	answers := json.NewEncoder(os.NewFile(answerFile, "answers"))
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	stop, err := o.Profiles.start(o.Contender + "." + o.Role)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	c, ok := find(contenders(), o.Contender)
	if !ok {
		return errors.New("there is no such contender")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := worker{born: time.Now()}
	ready, err := w.open(ctx, &c, o)
	if err != nil {
		return err
	}
	if err := answers.Encode(ready); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	for requests := json.NewDecoder(os.Stdin); ; {
		var r request
		switch err := requests.Decode(&r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read request: %w", err)
		}
		a, err := w.do(r)
		if err != nil {
			a.Err = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// worker does what it is asked for.
type worker struct {
	born     time.Time
	generate *generator // nil in a server
}

func (w *worker) open(ctx context.Context, c *contender, o order) (answer, error) {
	var a answer
	if o.Role == roleServer {
		for range c.servers {
			addr, err := c.serve(ctx)
			if err != nil {
				return a, fmt.Errorf("serve: %w", err)
			}
			a.Addrs = append(a.Addrs, addr)
		}
		return a, nil
	}
	conn, err := c.dial(ctx, o.Addrs)
	if err != nil {
		return a, fmt.Errorf("dial: %w", err)
	}
	w.generate = &generator{conn: conn}
	return a, connect(ctx, conn)
}

func (w *worker) do(r request) (answer, error) {
	var a answer
	switch r.Op {
	case opStart:
		w.generate.start(r.Cell)
	case opBegin, opEnd:
		if w.generate != nil {
			w.generate.measuring.Store(r.Op == opBegin)
		}
		var err error
		a.Usage, err = usageNow(w.born)
		return a, err
	case opStop:
		a.Result = w.generate.end()
	default:
		return a, fmt.Errorf("do %q: there is no such operation", r.Op)
	}
	return a, nil
}

// memProfileRate is how many bytes are allocated for one sample, few enough for
// what is allocated once a call to be told from what is not.
const memProfileRate = 16 << 10

// start begins to write profiles; stop ends them.
func (p profiles) start(name string) (stop func() error, err error) {
	stop = func() error { return nil }
	if p.Mem != "" {
		runtime.MemProfileRate = memProfileRate
	}
	if p.CPU != "" {
		f, err := os.Create(filepath.Join(p.CPU, name+".cpu.pprof"))
		if err != nil {
			return nil, fmt.Errorf("write CPU profile: %w", err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, errors.Join(fmt.Errorf("write CPU profile: %w", err), f.Close())
		}
		stop = func() error {
			pprof.StopCPUProfile()
			return f.Close()
		}
	}
	if p.Mem == "" {
		return stop, nil
	}
	stopCPU := stop
	return func() error {
		err := stopCPU()
		f, created := os.Create(filepath.Join(p.Mem, name+".allocs.pprof"))
		if created != nil {
			return errors.Join(err, fmt.Errorf("write allocation profile: %w", created))
		}
		return errors.Join(err, pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
	}, nil
}
