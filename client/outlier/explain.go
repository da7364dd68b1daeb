package outlier

// Record finds the record of an address; nil if the last list did not have it.
// It is for people who ask what is known: attempts keep the record that
// [Detector.Update] gave.
func (d *Detector) Record(addr string) *Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.members[addr]
}
