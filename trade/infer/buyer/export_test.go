package buyer

// Prune is the chore, for tests.
func (d *Desk) Prune() error { return d.prune() }

// Judge takes all places of those that judge answers, and gives them back when
// the function it returns is called.
func (d *Desk) Judge() (free func()) {
	for range cap(d.judging) {
		d.judging <- struct{}{}
	}
	return func() {
		for range cap(d.judging) {
			<-d.judging
		}
	}
}
