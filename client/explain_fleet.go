package client

import (
	"slices"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/outlier"
	"plinth.internal/client/route"
	"plinth.internal/registry"
)

// fleetExplained is what is known of the instances over one protocol, with what
// the sentence about one of them depends on beside the instance itself.
type fleetExplained struct {
	policy    string
	list      outlier.Summary
	routes    *route.Table
	instances []InstanceExplained
	middle    CostExplained // the median of each term of those that can be called
	compared  int           // how many those are
	wanting   int           // how many get calls by choice and, as far as known, can be reached
	up        int           // how many want calls
	held      bool          // the breaker lets no call through
	narrowed  *narrowed     // nil where the client knows all instances
}

// explain reads the records of the snapshot's instances. It finds them by their
// addresses, so that it needs no view, which belong to the transports.
func (f *fleetExplained) explain(now time.Time, d *directory, snapshot registry.Snapshot) {
	f.narrowed = d.narrowed.Load()
	chosen := map[string]*registry.Instance{}
	for i := range snapshot.Instances {
		inst := &snapshot.Instances[i]
		addr := inst.Endpoints[d.protocol]
		if addr != "" && (chosen[addr] == nil || newer(inst, chosen[addr])) {
			chosen[addr] = inst
		}
	}
	for i := range snapshot.Instances { // which are sorted by ID
		inst := &snapshot.Instances[i]
		addr := inst.Endpoints[d.protocol]
		if chosen[addr] == inst && f.narrowed != nil && f.narrowed.outside[addr] {
			f.instances = append(f.instances, explainOutside(d.protocol, inst, snapshot))
			continue
		}
		endpoint, record := d.set.Endpoint(addr), d.detector.Record(addr)
		if chosen[addr] != inst || endpoint == nil || record == nil {
			continue // it has only just come
		}
		e := explainInstance(now, inst, endpoint, f.list, record.State(now))
		e.Protocol, e.Addr, e.State = d.protocol, addr, StateUp
		e.Connection = d.connection(now, addr)
		e.Routes = f.routesOf(inst)
		if since, ok := snapshot.Quarantined[inst.ID]; ok {
			e.State, e.LostAt = StateQuarantined, since
		}
		if inst.State == registry.Draining { // that decides more
			e.State = StateDraining
		} else {
			f.up++
		}
		f.instances = append(f.instances, e)
	}
	f.addGone(now, d)
	f.compare()
	for i := range f.instances {
		e := &f.instances[i]
		if e.verdict = f.judge(e); e.verdict != verdictGone {
			e.Why = f.why(now, e)
		}
	}
}

func explainInstance(now time.Time, inst *registry.Instance, endpoint *balancer.Endpoint, list outlier.Summary, state outlier.State) InstanceExplained {
	stats, recent := endpoint.Stats(now), endpoint.Recent(now)
	return InstanceExplained{
		ID: inst.ID, Zone: inst.Zone, Version: inst.Version, Weight: endpoint.Weight(),
		Picks: recent.Picks, Refused: recent.Refused, Ignored: recent.Ignored,
		Calls: state.Calls, Failures: state.Failures, Run: state.Run, InFlight: stats.InFlight, Warm: stats.Warm,
		Cost: CostExplained{
			Seconds: stats.Cost, LatencyMS: millis(stats.Expected), OldestMS: millis(stats.Oldest), Load: stats.Load,
			FailureShare: stats.FailureShare, ZoneFactor: stats.Zone, Reporting: stats.Reporting, ReportAgeS: seconds(stats.Age),
		},
		Ejection: explainEjection(now, state, list),
	}
}

// compare fills in what an instance is relative to the others.
func (f *fleetExplained) compare() {
	picks := 0
	var costs, latencies, loads []float64
	for i := range f.instances {
		e := &f.instances[i]
		picks += e.Picks
		if e.State == StateGone || e.State == StateOutside || e.State == StateDraining && f.up > 0 || e.Connection.unusable() {
			continue
		}
		f.wanting++
		if e.Ejection != nil && e.Ejection.KeptOut {
			continue
		}
		e.compared = true
		costs, latencies, loads = append(costs, e.Cost.Seconds), append(latencies, e.Cost.LatencyMS), append(loads, e.Cost.Load)
	}
	f.compared = len(costs)
	f.middle = CostExplained{Seconds: median(costs), LatencyMS: median(latencies), Load: median(loads)}
	for i := range f.instances {
		e := &f.instances[i]
		if f.compared == 0 && e.Ejection != nil {
			e.Ejection.KeptOut = false // all gates are closed: any of them is picked
		}
		if picks > 0 {
			e.Share = float64(e.Picks) / float64(picks)
		}
		others := f.compared
		if e.compared {
			others--
		}
		if others > 0 && f.middle.Seconds > 0 {
			e.Cost.Relative = e.Cost.Seconds / f.middle.Seconds
		}
	}
}

// median is the lower one of the two in the middle, so that of two instances the
// cheaper one is what the other is compared with.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

func (f *fleetExplained) protocol(d *directory) ProtocolExplained {
	fleet := d.set.Fleet()
	return ProtocolExplained{
		Protocol: d.protocol, Instances: f.list.Total, Ejected: f.list.Ejected, Panic: f.list.Panic,
		LatencyMS: millis(fleet.Latency), Load: fleet.Load, FailureShare: fleet.Failures,
		InFlight: fleet.InFlight, BounceLimit: fleet.Bound, Routes: f.explainRoutes(d),
	}
}
