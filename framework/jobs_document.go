package framework

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// measureJobs brings the gauges of the jobs up to date.
func (a *App) measureJobs() {
	for _, j := range a.jobs.document() {
		a.metrics.SetJobLeader(j.Name, j.Leading)
	}
}

// JobDocument is a job in a [LifecycleDocument], as this instance knows it.
type JobDocument struct {
	Name string `json:"name"`
	// EveryS is the interval, 0 for what Service.Lead was given.
	EveryS float64 `json:"every_s"`
	// Leading says that this instance is the one that runs it, Since since when
	// that is so or not.
	Leading bool   `json:"leading"`
	Since   string `json:"since"`
	// Fence is that of the leadership, or of the last one here.
	Fence int64 `json:"fence"`
	// Next is when it runs next here, "" while another instance leads.
	Next string `json:"next"`
	// Last is the last run here, nil before the first one.
	Last *JobRunDocument `json:"last,omitempty"`
	// Runs are how many there were here, by their outcome.
	Runs map[string]int `json:"runs"`
	// Error is why this instance cannot stand for the election at the moment.
	Error string `json:"error"`
}

// JobRunDocument is one run of a job.
type JobRunDocument struct {
	Began string `json:"began"`
	// Running says that it is not over; TookMS is the time so far then.
	Running bool    `json:"running"`
	TookMS  float64 `json:"took_ms"`
	// Outcome is ok, failed, panicked or cut_short, "" while it runs.
	Outcome string `json:"outcome"`
	Error   string `json:"error"`
}

func (js *jobs) document() []JobDocument {
	js.mu.Lock()
	list := slices.Clone(js.list)
	js.mu.Unlock()
	out := make([]JobDocument, 0, len(list))
	for _, j := range list {
		out = append(out, j.document(time.Now()))
	}
	slices.SortFunc(out, func(x, y JobDocument) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

func (j *job) document(now time.Time) JobDocument {
	j.mu.Lock()
	defer j.mu.Unlock()
	doc := JobDocument{
		Name: j.name, EveryS: j.every.Seconds(), Leading: j.leading, Since: stamp(j.since), Fence: j.fence,
		Next: stamp(j.next), Runs: map[string]int{}, Error: text(j.failing),
	}
	maps.Copy(doc.Runs, j.runs)
	switch {
	case j.running:
		doc.Last = &JobRunDocument{Began: stamp(j.began), Running: true, TookMS: milliseconds(now.Sub(j.began))}
	case !j.began.IsZero():
		doc.Last = &JobRunDocument{Began: stamp(j.began), TookMS: milliseconds(j.took), Outcome: j.outcome, Error: text(j.err)}
	}
	return doc
}
