package seller_test

import bolt "go.etcd.io/bbolt"

// jobs is how many jobs are on disk.
func (b *stall) jobs() (n int) {
	err := b.store.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("provider.jobs")).ForEach(func(_, _ []byte) error { n++; return nil })
	})
	if err != nil {
		b.t.Error(err)
	}
	return n
}
