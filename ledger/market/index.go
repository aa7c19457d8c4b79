package market

import (
	"context"
	"errors"

	"cosmossdk.io/collections"
)

// index is a second list of a map's keys, in another order. It reads the old value
// once for all indexes of a map (see together), and writes only where a value's place
// has changed: of four, a lease that is paid changes one at most. The SDK's own read
// the old value each, and write the same place again.
type index[K, V any] struct {
	keys collections.KeySet[K]
	key  func(pk []byte, v *V) K
	same func(a, b *V) bool // they have the same place
	has  func(v *V) bool    // nil: it lists all
}

func (i index[K, V]) lists(v *V) bool { return i.has == nil || i.has(v) }

// Move takes a value from its old place to its new one; either may be none.
func (i index[K, V]) Move(ctx context.Context, pk []byte, was, is *V) error {
	from, to := was != nil && i.lists(was), is != nil && i.lists(is)
	if from && to && i.same(was, is) {
		return nil
	}
	if from {
		if err := i.keys.Remove(ctx, i.key(pk, was)); err != nil {
			return err
		}
	}
	if to {
		return i.keys.Set(ctx, i.key(pk, is))
	}
	return nil
}

// together is all indexes of a map.
type together[V any] []interface {
	Move(ctx context.Context, pk []byte, was, is *V) error
}

// Reference brings the indexes up to a new value.
func (t together[V]) Reference(ctx context.Context, pk []byte, v V, old func() (V, error)) error {
	was, err := old()
	before := &was
	if errors.Is(err, collections.ErrNotFound) {
		before, err = nil, nil
	}
	if err != nil {
		return err
	}
	for _, i := range t {
		if err := i.Move(ctx, pk, before, &v); err != nil {
			return err
		}
	}
	return nil
}

// Unreference takes a value out of the indexes.
func (t together[V]) Unreference(ctx context.Context, pk []byte, old func() (V, error)) error {
	was, err := old()
	if err != nil {
		return err
	}
	for _, i := range t {
		if err := i.Move(ctx, pk, &was, nil); err != nil {
			return err
		}
	}
	return nil
}
