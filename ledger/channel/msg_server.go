package channel

import "github.com/torg-network/torg/ledger/api/channelv1"

// msgServer answers the module's messages, one file each.
type msgServer struct{ *Keeper }

var _ channelv1.MsgServer = msgServer{}
