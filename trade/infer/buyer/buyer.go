package buyer

import (
	"errors"
	"time"

	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
)

// The trade's paths on the wire.
const (
	pathServe  = infer.Name + "/serve"
	pathCancel = infer.Name + "/cancel"
	pathProof  = infer.Name + "/proof"
)

// Config is what a buyer is made of. Zero values have defaults.
type Config struct {
	Desk  *desk.Desk
	Trade *Trade // which the desk has as well

	Silence time.Duration // of a provider that works; then it is given up (2 min)
	Grace   time.Duration // for the receipt of cancelled work (2 s)
}

// Buyer asks. It is safe for concurrent use, and has nothing to close.
type Buyer struct{ cfg Config }

var _ Seller = (*Buyer)(nil)

// New makes a buyer.
func New(cfg Config) (*Buyer, error) {
	if cfg.Desk == nil || cfg.Trade == nil {
		return nil, errors.New("buyer: desk and trade are required")
	}
	def(&cfg.Silence, 2*time.Minute)
	def(&cfg.Grace, 2*time.Second)
	return &Buyer{cfg: cfg}, nil
}

func def(v *time.Duration, d time.Duration) {
	if *v == 0 {
		*v = d
	}
}
