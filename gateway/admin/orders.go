package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/torg-network/torg/square"
)

// maxOrder bounds the body of an order, whose job is base64 in it, in bytes.
const maxOrder = 6 << 20

// Orders places orders for results, of any trade, and tells how they stand, as any
// JSON values. It wraps ErrNotFound for one that it does not know, and ErrOrder for
// what cannot be ordered, or decided, so. One that is placed for review is decided by
// AcceptOrder or ChallengeOrder.
type Orders interface {
	PlaceOrder(ctx context.Context, o square.Order, job []byte, review bool) (any, error)
	AcceptOrder(ctx context.Context, id square.Hash) (any, error)
	ChallengeOrder(ctx context.Context, id square.Hash, why string) (any, error)
	Orders(ctx context.Context) (any, error)
	Order(ctx context.Context, id square.Hash) (any, error)
}

// ErrOrder is wrapped by what cannot be ordered, or decided about an order.
var ErrOrder = errors.New("that cannot be ordered")

// maxWhy bounds why a result is challenged, in bytes.
const maxWhy = 1 << 10

func (h *handler) placeOrder(r *http.Request) (any, error) {
	if h.Orders == nil {
		return nil, absent("orders")
	}
	var in struct {
		Order  square.Order `json:"order"`
		Job    []byte       `json:"job"`
		Review bool         `json:"review"`
	}
	if err := read(r, &in); err != nil {
		return nil, err
	}
	out, err := h.Orders.PlaceOrder(r.Context(), in.Order, in.Job, in.Review)
	return out, ordered(err)
}

// ordered is the refusal of what cannot be done with an order.
func ordered(err error) error {
	if errors.Is(err, ErrOrder) {
		return refuse(http.StatusBadRequest, "bad_request", err.Error())
	}
	return err
}

func (h *handler) acceptOrder(r *http.Request) (any, error) {
	id, err := h.order(r)
	if err != nil {
		return nil, err
	}
	out, err := h.Orders.AcceptOrder(r.Context(), id)
	return out, ordered(err)
}

func (h *handler) challengeOrder(r *http.Request) (any, error) {
	id, err := h.order(r)
	if err != nil {
		return nil, err
	}
	var in struct {
		Why string `json:"why"`
	}
	if err := read(r, &in); err != nil {
		return nil, err
	}
	if in.Why == "" || len(in.Why) > maxWhy {
		return nil, refuse(http.StatusBadRequest, "bad_request", fmt.Sprintf("why: say in 1 to %d bytes what is wrong", maxWhy))
	}
	out, err := h.Orders.ChallengeOrder(r.Context(), id, in.Why)
	return out, ordered(err)
}

func (h *handler) listOrders(r *http.Request) (any, error) {
	if h.Orders == nil {
		return nil, absent("orders")
	}
	return h.Orders.Orders(r.Context())
}

func (h *handler) getOrder(r *http.Request) (any, error) {
	id, err := h.order(r)
	if err != nil {
		return nil, err
	}
	return h.Orders.Order(r.Context(), id)
}

// order is the one that a path names.
func (h *handler) order(r *http.Request) (square.Hash, error) {
	if h.Orders == nil {
		return square.Hash{}, absent("orders")
	}
	id, err := square.ParseHash(r.PathValue("id"))
	if err != nil {
		err = refuse(http.StatusBadRequest, "bad_request", "order: "+err.Error())
	}
	return id, err
}
