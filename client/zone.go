package client

import "plinth.internal/registry"

// away tells whether an instance is known to be in another zone than the client.
func (c *Client) away(inst *registry.Instance) bool {
	own := c.options.zone
	return own != "" && inst.Zone != "" && inst.Zone != own
}

// setAwayFactor takes a zone factor into use.
func (s *service) setAwayFactor(factor float64) {
	for _, d := range []*directory{s.grpc, s.http, s.netrpc} {
		d.set.SetAwayFactor(factor)
	}
}
