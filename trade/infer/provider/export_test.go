package provider

import "context"

// Tock reads the ledger's time, as the chores do.
func (p *Provider) Tock(ctx context.Context) { _, _ = p.clock.Refresh(ctx) }
