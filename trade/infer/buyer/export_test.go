package buyer

// Prune is the chore, for tests.
func (d *Desk) Prune() error { return d.prune() }
