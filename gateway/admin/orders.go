package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/torg-network/torg/square"
)

// maxOrder bounds the body of an order, whose job is base64 in it, in bytes.
const maxOrder = 6 << 20

// Orders places orders for results, of any trade, and tells how they stand, as any
// JSON values. It wraps ErrNotFound for one that it does not know, and ErrOrder for
// what cannot be ordered so.
type Orders interface {
	PlaceOrder(ctx context.Context, o square.Order, job []byte) (any, error)
	Orders(ctx context.Context) (any, error)
	Order(ctx context.Context, id square.Hash) (any, error)
}

// ErrOrder is wrapped by what cannot be ordered so.
var ErrOrder = errors.New("that cannot be ordered")

func (h *handler) placeOrder(r *http.Request) (any, error) {
	if h.Orders == nil {
		return nil, absent("orders")
	}
	var in struct {
		Order square.Order `json:"order"`
		Job   []byte       `json:"job"`
	}
	if err := read(r, &in); err != nil {
		return nil, err
	}
	out, err := h.Orders.PlaceOrder(r.Context(), in.Order, in.Job)
	if errors.Is(err, ErrOrder) {
		return nil, refuse(http.StatusBadRequest, "bad_request", err.Error())
	}
	return out, err
}

func (h *handler) listOrders(r *http.Request) (any, error) {
	if h.Orders == nil {
		return nil, absent("orders")
	}
	return h.Orders.Orders(r.Context())
}

func (h *handler) getOrder(r *http.Request) (any, error) {
	if h.Orders == nil {
		return nil, absent("orders")
	}
	id, err := square.ParseHash(r.PathValue("id"))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "bad_request", "order: "+err.Error())
	}
	return h.Orders.Order(r.Context(), id)
}
