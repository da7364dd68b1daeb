package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// process is a child as its parent sees it.
type process struct {
	name     string
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	requests *json.Encoder
	answers  *json.Decoder
	reader   io.Closer
}

// spawn starts this program again and waits until it is ready. The process is
// killed when ctx ends.
func spawn(ctx context.Context, o order) (_ *process, ready answer, err error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, ready, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, ready, fmt.Errorf("start %s: %w", o.Role, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, ready, fmt.Errorf("start %s: %w", o.Role, err)
	}
	p := &process{name: o.Contender + " " + o.Role, cmd: exec.CommandContext(ctx, self), answers: json.NewDecoder(r), reader: r}
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	p.cmd.Stderr = os.Stderr
	p.cmd.ExtraFiles = []*os.File{w} // answerFile
	if p.stdin, err = p.cmd.StdinPipe(); err == nil {
		p.requests = json.NewEncoder(p.stdin)
		err = p.cmd.Start()
	}
	_ = w.Close() // the child has its own
	if err != nil {
		return nil, ready, errors.Join(fmt.Errorf("start %s: %w", p.name, err), r.Close())
	}
	if err := p.answers.Decode(&ready); err != nil {
		return nil, ready, errors.Join(fmt.Errorf("start %s: it ended before it was ready: %w", p.name, err), p.close())
	}
	return p, ready, nil
}

// ask sends a request and waits for its answer.
func (p *process) ask(r request) (answer, error) {
	var a answer
	if err := p.requests.Encode(r); err != nil {
		return a, fmt.Errorf("ask %s to %s: %w", p.name, r.Op, err)
	}
	if err := p.answers.Decode(&a); err != nil {
		return a, fmt.Errorf("ask %s to %s: %w", p.name, r.Op, err)
	}
	if a.Err != "" {
		return a, fmt.Errorf("ask %s to %s: %s", p.name, r.Op, a.Err)
	}
	return a, nil
}

// close lets the process end, and waits for that.
func (p *process) close() error {
	err := p.stdin.Close()
	if ended := p.cmd.Wait(); ended != nil {
		err = fmt.Errorf("end %s: %w", p.name, ended)
	}
	return errors.Join(err, p.reader.Close())
}
