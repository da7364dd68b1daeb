package overridecmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"plinth.internal/cmd/scaffold/internal/access"
	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
)

// undoWithin bounds the taking back of an override, after an interrupt too.
const undoWithin = 2 * registry.OperationTimeout

// result is the last line with --json.
type result struct {
	Type    string `json:"type"`
	OK      bool   `json:"ok"`
	Service string `json:"service"`
	ID      string `json:"id"`
	// Changed is false if nothing had to be done.
	Changed bool `json:"changed"`
	// Waited says that State and Weight are what the instance shows now.
	Waited   bool              `json:"waited"`
	ElapsedS float64           `json:"elapsed_s"`
	State    registry.State    `json:"state,omitempty"`
	Weight   int               `json:"weight,omitempty"`
	Override registry.Override `json:"override"`
}

func run(ctx context.Context, p *ui.Printer, o options, arg string, w wish) error {
	r, err := o.access.Open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // nothing depends on it any more
	begun := time.Now()
	inst, err := r.Find(ctx, arg)
	if missing, ok := errors.AsType[*etcd.NotFoundError](err); ok && w.clears {
		return sweep(ctx, p, r, arg, missing)
	}
	if err != nil {
		return explain(r, err)
	}
	name := inst.Service + "/" + inst.ID
	change, err := r.ChangeOverride(ctx, inst.Service, inst.ID, w.apply)
	if err != nil {
		return explain(r, err)
	}
	out := result{
		Type: "result", OK: true, Service: inst.Service, ID: inst.ID, Override: change.After,
		Changed: change.Before != change.After, State: inst.State, Weight: inst.Weight,
	}
	if w.clears && !out.Changed {
		return p.Result(name+" "+w.done(inst)+"; nothing had to be changed", out)
	}
	if o.wait == 0 {
		return p.Result(name+": the registry has it, whether the instance follows was not waited for", out)
	}
	wait, cancel := context.WithTimeout(ctx, o.wait)
	defer cancel()
	inst, err = r.Await(wait, inst.Service, inst.ID, func(inst registry.Instance, revision int64) bool {
		// An instance writes its entry anew for every change of its override.
		return (revision > change.Revision || !out.Changed) && w.shows(inst)
	})
	if err != nil {
		return undo(ctx, r, out, change, err, o.wait)
	}
	out.Waited, out.State, out.Weight, out.ElapsedS = true, inst.State, inst.Weight, time.Since(begun).Seconds()
	return p.Result(fmt.Sprintf("%s %s  (%.1fs)", name, w.done(inst), out.ElapsedS), out)
}

// sweep takes away the override of an instance that is not there any more.
func sweep(ctx context.Context, p *ui.Printer, r *access.Registry, arg string, missing *etcd.NotFoundError) error {
	service, id, ok := strings.Cut(arg, "/")
	if !ok {
		return explain(r, missing)
	}
	overrides, odd, err := r.Overrides(ctx, service)
	if err != nil {
		return explain(r, err)
	}
	_, left := overrides[id]
	for _, s := range odd {
		left = left || strings.HasSuffix(s.Key, "/"+arg)
	}
	if !left {
		return explain(r, missing)
	}
	if err := r.ClearOverride(ctx, service, id); err != nil {
		return explain(r, err)
	}
	return p.Result(arg+" is gone; what it had left behind was taken away",
		result{Type: "result", OK: true, Service: service, ID: id, Changed: true})
}

// undo puts back the override there was, and returns what there is to say of an
// instance that did not follow.
func undo(ctx context.Context, r *access.Registry, out result, change etcd.Change, cause error, waited time.Duration) error {
	interrupted := ctx.Err()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	name := out.Service + "/" + out.ID
	e := &ui.Error{Code: "no_reaction", Err: cause}
	_, gone := errors.AsType[*etcd.NotFoundError](cause)
	switch {
	case interrupted != nil:
		e.Code, e.Message = "interrupted", "interrupted before "+name+" followed"
	case gone:
		e.Code, e.Message = "instance_gone", name+" has left the registry meanwhile"
	case errors.Is(cause, context.DeadlineExceeded) && !errors.Is(cause, etcd.ErrUnreachable):
		e.Message = fmt.Sprintf("%s does not follow: its entry is unchanged after %v", name, waited)
		e.Hint = "it is dead, cut off from etcd, or knows no overrides: scaffold ps " + out.Service
	default:
		e.Code, e.Message = "unknown_outcome", fmt.Sprintf("wait for %s: %v", name, cause)
	}
	var err error
	if gone {
		err = r.ClearOverride(ctx, out.Service, out.ID)
	} else if out.Changed {
		err = restore(ctx, r, out, change)
	}
	switch {
	case err != nil:
		e.Message += "; the override may still be there: " + err.Error()
		e.Hint = "scaffold ps " + out.Service
	case gone, out.Changed:
		e.Message += "; the override was taken back"
	default:
		e.Message += "; the override was there before and still is"
	}
	return e
}

// restore undoes the change, unless somebody else has made another one.
func restore(ctx context.Context, r *access.Registry, out result, change etcd.Change) error {
	_, err := r.ChangeOverride(ctx, out.Service, out.ID, func(now registry.Override) registry.Override {
		if now == change.After {
			return change.Before
		}
		return now
	})
	if _, gone := errors.AsType[*etcd.NotFoundError](err); gone {
		return r.ClearOverride(ctx, out.Service, out.ID)
	}
	return err
}

// explain adds the next step to what an instance was looked for in vain.
func explain(r *access.Registry, err error) error {
	if e, ok := errors.AsType[*etcd.NotFoundError](err); ok {
		out := &ui.Error{Code: "no_such_instance", Message: e.Error(), Hint: "scaffold ps", Err: err}
		if len(e.Near) > 0 {
			out.Detail, out.Hint = indent(e.Near), "was one of these meant; scaffold ps lists all"
		}
		return out
	}
	if e, ok := errors.AsType[*etcd.AmbiguousError](err); ok {
		return &ui.Error{Code: "ambiguous_id", Message: e.Error(), Detail: indent(e.Matches), Hint: "give more of the ID, or SERVICE/ID", Err: err}
	}
	return r.Explain(err)
}

func indent(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = "  " + name
	}
	return out
}
