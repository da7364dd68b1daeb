package fault

// Connections is the number of those that are known.
func (i *Injector) Connections() int {
	i.conns.mu.Lock()
	defer i.conns.mu.Unlock()
	return len(i.conns.open)
}
