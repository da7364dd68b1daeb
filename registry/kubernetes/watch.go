package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"

	"plinth.internal/internal/backoff"
	"plinth.internal/registry"
)

const (
	// relistEvery is how often, give or take half of it, the list is read again
	// although no event says that it has changed.
	relistEvery = 10 * time.Minute
	// watchFor is how long, give or take half of it, one watch request lasts.
	// Without a bound, one that hangs would never be noticed.
	watchFor = 5 * time.Minute
	// watchSlack is how much later than the API server we end a watch.
	watchSlack = 10 * time.Second
	// short is a watch request that is not worth the name, and maxShort how many
	// of them in a row are borne before the error is told.
	short    = time.Second
	maxShort = 3
)

// Watch lists the slices of the service and follows their changes.
func (d *driver) Watch(ctx context.Context, service string, emit func(registry.List)) error {
	name, namespace, err := d.resolve(service)
	if err != nil {
		return err
	}
	v := &serviceView{
		service:  service,
		client:   d.client.EndpointSlices(namespace),
		selector: labels.Set{discoveryv1.LabelServiceName: name}.String(),
	}
	// client-go tells its logger about a watch that breaks; we return it.
	ctx = logr.NewContext(ctx, logr.Discard())
	for rush := 0; ; {
		if v.version == "" || !time.Now().Before(v.relist) {
			if err := v.list(ctx); err != nil {
				return fmt.Errorf("list endpoint slices of %s/%s: %w", namespace, name, err)
			}
			emit(v.snapshot())
		}
		began := time.Now()
		err := v.follow(ctx, emit)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
		case apierrors.IsGone(err) || apierrors.IsResourceExpired(err):
			v.version = "" // and the list is read again
		default:
			return fmt.Errorf("watch endpoint slices of %s/%s: %w", namespace, name, err)
		}
		if time.Since(began) >= short {
			rush = 0
			continue
		}
		if rush++; rush >= maxShort {
			if err == nil {
				err = errors.New("the API server ends each watch at once")
			}
			return fmt.Errorf("watch endpoint slices of %s/%s: %w", namespace, name, err)
		}
	}
}

// serviceView is the slices of one service as the list and the events so far
// describe them.
type serviceView struct {
	service  string
	client   discoveryclient.EndpointSliceInterface
	selector string

	version string // from which a watch can be taken up; empty: there must be a list
	relist  time.Time
	slices  map[string]*discoveryv1.EndpointSlice // by name
}

// list reads all slices.
func (v *serviceView) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, registry.OperationTimeout)
	defer cancel()
	list, err := v.client.List(ctx, metav1.ListOptions{LabelSelector: v.selector})
	if err != nil {
		return err
	}
	v.version = list.ResourceVersion
	v.relist = time.Now().Add(backoff.Around(relistEvery, 0.5))
	v.slices = make(map[string]*discoveryv1.EndpointSlice, len(list.Items))
	for i := range list.Items {
		v.slices[list.Items[i].Name] = &list.Items[i]
	}
	return nil
}

// follow applies events until the watch request ends. It returns nil if that
// was a regular end.
func (v *serviceView) follow(ctx context.Context, emit func(registry.List)) error {
	lasts := backoff.Around(watchFor, 0.5)
	ctx, cancel := context.WithTimeout(ctx, lasts+watchSlack)
	defer cancel()
	w, err := v.client.Watch(ctx, metav1.ListOptions{
		LabelSelector:       v.selector,
		ResourceVersion:     v.version,
		AllowWatchBookmarks: true,
		TimeoutSeconds:      new(int64(lasts / time.Second)),
	})
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil // of no news, or of the caller, who looks
		case event, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
			changed, err := v.apply(event)
			if err != nil {
				return err
			}
			// Each event is told, and not the sum of several: a draining mark
			// that nobody sees would make a withdrawal look like a loss.
			if changed {
				emit(v.snapshot())
			}
		}
	}
}

// apply takes one event, and reports whether the list may have changed.
func (v *serviceView) apply(event watch.Event) (changed bool, err error) {
	if event.Type == watch.Error {
		return false, apierrors.FromObject(event.Object)
	}
	slice, ok := event.Object.(*discoveryv1.EndpointSlice)
	if !ok {
		return false, fmt.Errorf("read event %s: unexpected object %T", event.Type, event.Object)
	}
	switch event.Type {
	case watch.Added, watch.Modified:
		v.slices[slice.Name] = slice
		changed = true
	case watch.Deleted:
		delete(v.slices, slice.Name)
		changed = true
	}
	// A bookmark has nothing but the version.
	v.version = slice.ResourceVersion
	return changed, nil
}

func (v *serviceView) snapshot() registry.List {
	list := convert(v.service, slices.Collect(maps.Values(v.slices)))
	list.Revision, _ = strconv.ParseInt(v.version, 10, 64) // an opaque string, by the letter
	return list
}
