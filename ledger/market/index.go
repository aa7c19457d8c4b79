package market

import (
	"context"

	"cosmossdk.io/collections"
)

// together is several indexes of one map as one. Each of collections' own reads
// the old value for itself, and writes its reference again although nothing has
// changed: of four, a lease that is paid changes one at most.
type together[V any] []indexed[V]

// indexed is an index, and whether two values have the same reference in it.
type indexed[V any] struct {
	collections.Index[[]byte, V]
	same func(a, b *V) bool
}

// Reference brings the indexes up to a new value.
func (t together[V]) Reference(ctx context.Context, key []byte, v V, old func() (V, error)) error {
	was, err := old()
	again := func() (V, error) { return was, err }
	for _, i := range t {
		if err == nil && i.same(&was, &v) {
			continue
		}
		if err := i.Index.Reference(ctx, key, v, again); err != nil {
			return err
		}
	}
	return nil
}

// Unreference takes a value out of the indexes.
func (t together[V]) Unreference(ctx context.Context, key []byte, old func() (V, error)) error {
	was, err := old()
	for _, i := range t {
		if err := i.Index.Unreference(ctx, key, func() (V, error) { return was, err }); err != nil {
			return err
		}
	}
	return nil
}
