package channel

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"

	"cosmossdk.io/collections"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/torg-network/torg/ledger/api/channelv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	"github.com/torg-network/torg/square"
)

type queryServer struct{ *Keeper }

var _ channelv1.QueryServer = queryServer{}

func (q queryServer) Channel(ctx context.Context, r *channelv1.QueryChannelRequest) (*channelv1.QueryChannelResponse, error) {
	id, err := square.ParseHash(r.Id)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	c, err := q.channels.Get(ctx, id[:])
	if errors.Is(err, collections.ErrNotFound) {
		return nil, status.Error(codes.NotFound, "no such channel")
	}
	return &channelv1.QueryChannelResponse{Id: id.String(), Channel: c}, err
}

func (q queryServer) Channels(ctx context.Context, r *channelv1.QueryChannelsRequest) (*channelv1.QueryChannelsResponse, error) {
	limit := int(r.Limit)
	if limit == 0 {
		limit = 100
	}
	after, err := hex.DecodeString(r.After)
	if err != nil || limit < 1 || limit > 1000 {
		return nil, status.Error(codes.InvalidArgument, "limit is at most 1000; after is the last answer's next")
	}
	var rd squarev1.Reader
	payer, receiver := squarev1.FromAddress(rd.MaybeAddress("payer", r.Payer)), squarev1.FromAddress(rd.MaybeAddress("receiver", r.Receiver))
	if rd.Err != nil {
		return nil, status.Error(codes.InvalidArgument, rd.Err.Error())
	}
	const scan = 20 // entries looked at for each that may be answered with
	out := &channelv1.QueryChannelsResponse{}
	looked := 0
	visit := func(id []byte) (bool, error) {
		if len(out.Channels) == limit || looked == limit*scan {
			out.Next = hex.EncodeToString(after)
			return true, nil
		}
		looked++
		after = bytes.Clone(id)
		c, err := q.channels.Get(ctx, id)
		if err != nil {
			return true, err
		}
		if (payer == nil || bytes.Equal(c.Config.Payer, payer)) && (receiver == nil || bytes.Equal(c.Config.Receiver, receiver)) {
			out.Channels = append(out.Channels, channelv1.QueryChannelResponse{Id: hex.EncodeToString(id), Channel: c})
		}
		return false, nil
	}
	index, ref := q.channels.Indexes.Payer, payer
	if ref == nil {
		index, ref = q.channels.Indexes.Receiver, receiver
	}
	if ref == nil {
		all := new(collections.Range[[]byte])
		if len(after) > 0 {
			all = all.StartExclusive(after)
		}
		return out, q.channels.Walk(ctx, all, func(id []byte, _ channelv1.Channel) (bool, error) { return visit(id) })
	}
	p := collections.NewPrefixedPairRange[[]byte, []byte](ref)
	if len(after) > 0 {
		p = p.StartExclusive(after)
	}
	return out, index.Walk(ctx, p, func(_, id []byte) (bool, error) { return visit(id) })
}
