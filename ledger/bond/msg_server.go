package bond

import (
	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/market"
)

// msgServer answers the module's messages, one file each.
type msgServer struct{ market *market.Keeper }

var _ bondv1.MsgServer = msgServer{}
