package client

import (
	"context"
	"errors"
	"fmt"

	rpcclient "github.com/cometbft/cometbft/rpc/client"
	"github.com/cosmos/gogoproto/proto"
	"google.golang.org/grpc"

	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
)

// conn carries generated query clients over ABCI queries, so that a query
// works the same in process and by URL.
type conn struct{ rpc rpc }

func (c conn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	in, err := proto.Marshal(args.(proto.Message))
	if err != nil {
		return err
	}
	res, err := c.rpc.ABCIQueryWithOptions(ctx, method, in, rpcclient.ABCIQueryOptions{})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if r := res.Response; !r.IsOK() {
		if r.Codespace == sdkerrors.RootCodespace && r.Code == sdkerrors.ErrKeyNotFound.ABCICode() {
			return fmt.Errorf("%w: %s", ErrNotFound, r.Log)
		}
		return errors.New(r.Log)
	}
	return proto.Unmarshal(res.Response.Value, reply.(proto.Message))
}

func (conn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("the ledger has no streaming queries")
}
