package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cometbft/cometbft/crypto"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"

	"cosmossdk.io/math"

	cryptocodec "github.com/cosmos/cosmos-sdk/crypto/codec"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	minttypes "github.com/cosmos/cosmos-sdk/x/mint/types"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	"github.com/cosmos/cosmos-sdk/x/staking"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/market"
	"github.com/torg-network/torg/ledger/space"
	puremarket "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Block parameters of a new ledger.
const (
	MaxBlockBytes = space.BlockBytes
	MaxBlockGas   = space.BlockGas
)

// Genesis is what a new ledger starts with.
type Genesis struct {
	ChainID    string
	Time       time.Time // now, if zero
	Balances   []Balance
	Validators []Validator
	Market     *puremarket.Params // market.Default, if nil
	Cards      []Card             // kept for ever
}

// Card is what proofs of the work of orders that name it are checked against.
type Card struct {
	Trade string
	Card  []byte
}

// Balance is what an account owns at the start.
type Balance struct {
	Owner  square.Address
	Amount square.Amount
}

// Validator votes from the first block on with the stake given here, which is
// minted on top of the balances.
type Validator struct {
	Name     string
	Operator square.Address
	Key      crypto.PubKey // ed25519
	Stake    uint64        // utorg, at least one TORG
}

// Doc writes the genesis in CometBFT's form.
func (g Genesis) Doc() (*cmttypes.GenesisDoc, error) {
	if g.ChainID == "" || len(g.Validators) == 0 {
		return nil, errors.New("genesis: a chain id and at least one validator are needed")
	}
	a, err := New(Config{ChainID: g.ChainID, DB: dbm.NewMemDB(), Log: quiet})
	if err != nil {
		return nil, err
	}
	state := a.Basic().DefaultGenesis(a.Codec)
	put := func(module string, m interface {
		Reset()
		String() string
		ProtoMessage()
	}) {
		state[module] = a.Codec.MustMarshalJSON(m)
	}

	var supply sdk.Coins
	var balances []banktypes.Balance
	var genesisAccounts []authtypes.GenesisAccount
	held := map[square.Address]sdk.Coins{}
	var order []square.Address
	for _, b := range g.Balances {
		if _, seen := held[b.Owner]; !seen {
			order = append(order, b.Owner)
		}
		if b.Amount.Units == 0 || b.Amount.Units > square.MaxUnits {
			return nil, fmt.Errorf("genesis: balance of %s: %s", b.Owner, b.Amount)
		}
		held[b.Owner] = held[b.Owner].Add(sdk.NewCoin(b.Amount.Denom, math.NewIntFromUint64(b.Amount.Units)))
	}
	for _, owner := range order {
		balances = append(balances, banktypes.Balance{Address: owner.String(), Coins: held[owner]})
		genesisAccounts = append(genesisAccounts, authtypes.NewBaseAccountWithAddress(owner[:]))
		supply = supply.Add(held[owner]...)
	}

	var validators []stakingtypes.Validator
	var delegations []stakingtypes.Delegation
	pool := math.ZeroInt()
	for _, v := range g.Validators {
		if v.Stake < square.UnitsPerTorg {
			return nil, fmt.Errorf("genesis: validator %s stakes less than one TORG", v.Name)
		}
		pub, err := cryptocodec.FromCmtPubKeyInterface(v.Key)
		if err != nil {
			return nil, fmt.Errorf("genesis: validator %s: %w", v.Name, err)
		}
		operator := sdk.ValAddress(v.Operator[:]).String()
		val, err := stakingtypes.NewValidator(operator, pub, stakingtypes.Description{Moniker: v.Name})
		if err != nil {
			return nil, fmt.Errorf("genesis: validator %s: %w", v.Name, err)
		}
		stake := math.NewIntFromUint64(v.Stake)
		// Unbonded: InitGenesis bonds it and so tells slashing about it.
		val.Tokens, val.DelegatorShares = stake, math.LegacyNewDecFromInt(stake)
		validators = append(validators, val)
		delegations = append(delegations, stakingtypes.NewDelegation(v.Operator.String(), operator, val.DelegatorShares))
		pool = pool.Add(stake)
	}
	stakeCoins := sdk.NewCoins(sdk.NewCoin(square.Denom, pool))
	balances = append(balances, banktypes.Balance{Address: authtypes.NewModuleAddress(stakingtypes.NotBondedPoolName).String(), Coins: stakeCoins})
	supply = supply.Add(stakeCoins...)

	put(authtypes.ModuleName, authtypes.NewGenesisState(authtypes.DefaultParams(), genesisAccounts))
	bankState := banktypes.NewGenesisState(banktypes.DefaultParams(), balances, supply, []banktypes.Metadata{torgMetadata}, nil)
	put(banktypes.ModuleName, bankState)
	stakingParams := stakingtypes.DefaultParams()
	stakingParams.BondDenom = square.Denom
	stakingParams.KeyRotationFee.Denom = square.Denom
	put(stakingtypes.ModuleName, stakingtypes.NewGenesisState(stakingParams, validators, delegations))

	// No inflation: what is minted is decided by governance, not by default.
	zero := math.LegacyZeroDec()
	mint := minttypes.NewGenesisState(minttypes.NewMinter(zero, zero), minttypes.DefaultParams())
	mint.Params.MintDenom = square.Denom
	mint.Params.InflationMax, mint.Params.InflationMin, mint.Params.InflationRateChange = zero, zero, zero
	put(minttypes.ModuleName, mint)

	gov := govv1.DefaultGenesisState()
	for _, coins := range []*[]sdk.Coin{&gov.Params.MinDeposit, &gov.Params.ExpeditedMinDeposit} {
		for i := range *coins {
			(*coins)[i].Denom = square.Denom
		}
	}
	put("gov", gov)

	slash := slashingtypes.DefaultGenesisState()
	slash.Params.SignedBlocksWindow = 10_000
	put(slashingtypes.ModuleName, slash)

	leases := market.DefaultGenesis()
	numbers := puremarket.Default()
	if g.Market != nil {
		numbers = *g.Market
	}
	leases.Params = marketv1.FromParams(numbers)
	if err := numbers.Check(); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	for _, c := range g.Cards {
		leases.Cards = append(leases.Cards, marketv1.Card{Trade: c.Trade, Card: c.Card})
	}
	put(market.Name, leases)

	raw, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	params := cmttypes.DefaultConsensusParams()
	params.Block.MaxBytes, params.Block.MaxGas = MaxBlockBytes, MaxBlockGas
	// Of a block's bytes beside transactions, see space.GasPerByte.
	params.Evidence.MaxBytes = 48 << 10
	params.Evidence.MaxAgeDuration = stakingParams.UnbondingTime
	params.Evidence.MaxAgeNumBlocks = int64(stakingParams.UnbondingTime / time.Second)
	if len(g.Validators) == 1 {
		// Nobody could report a lone validator; a short age lets its blocks go.
		params.Evidence.MaxAgeNumBlocks = 10_000
	}
	doc := &cmttypes.GenesisDoc{
		GenesisTime: g.Time, ChainID: g.ChainID, InitialHeight: 1, ConsensusParams: params, AppState: raw,
	}
	return doc, doc.ValidateAndComplete()
}

var torgMetadata = banktypes.Metadata{
	Description: "The money of torg.",
	DenomUnits:  []*banktypes.DenomUnit{{Denom: square.Denom}, {Denom: "torg", Exponent: 6}},
	Base:        square.Denom, Display: "torg", Name: "Torg", Symbol: "TORG",
}

// lastBlockTime is when the last block was made: two exports of one state are
// the same bytes. The zero time, where the store does not tell, becomes now.
func (a *App) lastBlockTime() time.Time {
	if s, ok := a.CommitMultiStore().(interface {
		GetCommitInfo(int64) (*storetypes.CommitInfo, error)
	}); ok {
		if info, err := s.GetCommitInfo(a.LastBlockHeight()); err == nil {
			return info.Timestamp
		}
	}
	return time.Time{}
}

// Export writes the state after the last block as a genesis to start from.
func (a *App) Export() (*cmttypes.GenesisDoc, error) {
	height := a.LastBlockHeight()
	ctx := a.NewContext(true).WithBlockHeight(height).WithChainID(a.ChainID())
	state, err := a.modules.ExportGenesis(ctx, a.Codec)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	validators, err := staking.WriteValidators(ctx, a.Staking)
	if err != nil {
		return nil, fmt.Errorf("export validators: %w", err)
	}
	raw, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	doc := &cmttypes.GenesisDoc{
		GenesisTime: a.lastBlockTime(), ChainID: a.ChainID(), InitialHeight: height + 1,
		Validators: validators, AppState: raw,
	}
	params := cmttypes.ConsensusParamsFromProto(a.GetConsensusParams(ctx))
	doc.ConsensusParams = &params
	return doc, doc.ValidateAndComplete()
}
