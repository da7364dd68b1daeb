package auth

import "sync"

// cache remembers what was used lately, at most twice its size. What is used
// moves from the old half to the young one; when that is full the old half is
// forgotten as a whole, which costs nothing on the way of a call.
type cache[K comparable, V any] struct {
	size int

	mu         sync.Mutex
	young, old map[K]V
}

// newCache remembers the size last used at least.
func newCache[K comparable, V any](size int) *cache[K, V] {
	return &cache[K, V]{size: size, young: map[K]V{}}
}

func (c *cache[K, V]) get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[key]; ok {
		return v, true
	}
	v, ok := c.old[key]
	if ok {
		c.putLocked(key, v)
	}
	return v, ok
}

func (c *cache[K, V]) put(key K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(key, v)
}

func (c *cache[K, V]) putLocked(key K, v V) {
	if len(c.young) >= c.size {
		c.old, c.young = c.young, map[K]V{}
	}
	c.young[key] = v
}

func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, key)
	delete(c.old, key)
}
