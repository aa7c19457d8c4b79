// Package ledger is the square's ledger: a Cosmos SDK application wired by
// hand. It holds the money, the bonds, the payment channels and the leases; all
// market arithmetic is in package market, which this one only stores.
//
// A process runs it through package node; programs talk to it through package
// client.
package ledger

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"

	abci "github.com/cometbft/cometbft/abci/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/gogoproto/proto"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

	coreaddress "cosmossdk.io/core/address"
	sdkslog "cosmossdk.io/log/v2/slog"

	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/baseapp/txnrunner"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	addresscodec "github.com/cosmos/cosmos-sdk/codec/address"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/runtime"
	"github.com/cosmos/cosmos-sdk/std"
	pruningtypes "github.com/cosmos/cosmos-sdk/store/v2/pruning/types"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	authkeeper "github.com/cosmos/cosmos-sdk/x/auth/keeper"
	authtx "github.com/cosmos/cosmos-sdk/x/auth/tx"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	"github.com/cosmos/cosmos-sdk/x/authz"
	authzkeeper "github.com/cosmos/cosmos-sdk/x/authz/keeper"
	authzmodule "github.com/cosmos/cosmos-sdk/x/authz/module"
	"github.com/cosmos/cosmos-sdk/x/bank"
	bankkeeper "github.com/cosmos/cosmos-sdk/x/bank/keeper"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	consensuskeeper "github.com/cosmos/cosmos-sdk/x/consensus/keeper"
	consensustypes "github.com/cosmos/cosmos-sdk/x/consensus/types"
	"github.com/cosmos/cosmos-sdk/x/distribution"
	distrkeeper "github.com/cosmos/cosmos-sdk/x/distribution/keeper"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	"github.com/cosmos/cosmos-sdk/x/evidence"
	evidencekeeper "github.com/cosmos/cosmos-sdk/x/evidence/keeper"
	evidencetypes "github.com/cosmos/cosmos-sdk/x/evidence/types"
	"github.com/cosmos/cosmos-sdk/x/feegrant"
	feegrantkeeper "github.com/cosmos/cosmos-sdk/x/feegrant/keeper"
	feegrantmodule "github.com/cosmos/cosmos-sdk/x/feegrant/module"
	"github.com/cosmos/cosmos-sdk/x/gov"
	govkeeper "github.com/cosmos/cosmos-sdk/x/gov/keeper"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	"github.com/cosmos/cosmos-sdk/x/mint"
	mintkeeper "github.com/cosmos/cosmos-sdk/x/mint/keeper"
	minttypes "github.com/cosmos/cosmos-sdk/x/mint/types"
	"github.com/cosmos/cosmos-sdk/x/slashing"
	slashingkeeper "github.com/cosmos/cosmos-sdk/x/slashing/keeper"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	"github.com/cosmos/cosmos-sdk/x/staking"
	stakingkeeper "github.com/cosmos/cosmos-sdk/x/staking/keeper"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
	txsigning "github.com/cosmos/cosmos-sdk/x/tx/signing"
	upgradekeeper "github.com/cosmos/cosmos-sdk/x/upgrade/keeper"
	upgradetypes "github.com/cosmos/cosmos-sdk/x/upgrade/types"

	"github.com/torg-network/torg/ledger/bond"
	"github.com/torg-network/torg/ledger/channel"
	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/ledger/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// App is the ledger as CometBFT runs it.
type App struct {
	*baseapp.BaseApp

	Codec      codec.Codec
	Interfaces codectypes.InterfaceRegistry
	Tx         client.TxConfig

	Accounts authkeeper.AccountKeeper
	Bank     bankkeeper.BaseKeeper
	Staking  *stakingkeeper.Keeper
	Market   *market.Keeper

	feegrant     feegrantkeeper.Keeper
	modules      *module.Manager
	configurator module.Configurator
	halted       chan error

	pool      *Pool
	validator ed25519.PrivateKey
	proposed  [sha256.Size]byte // what this node proposed last; see setProposals
	collected []error           // what became of the fees of the block that is being executed
	snapshots snapshotting
}

// Config is what an App is built from.
type Config struct {
	ChainID  string
	Home     string // where upgrade plans are noted; may be empty
	DB       dbm.DB
	Log      *slog.Logger
	Trades   []trade.Rules // what the ledger can judge
	Lone     bool          // the only validator: refuses every peer
	Upgrades []Upgrade     // nil: those of this program; other than that for tests
	// Validator is the consensus key, ed25519, which makes this node's share of
	// the beacon. Without it the node makes no blocks.
	Validator []byte
	// RetainBlocks is how many blocks are kept, within what evidence and
	// Snapshots need; 0 keeps all.
	RetainBlocks uint64
	Snapshots    Snapshots // of a ledger with peers and a Home
}

// permissions of the module accounts.
var permissions = map[string][]string{
	authtypes.FeeCollectorName:          {authtypes.Burner},
	distrtypes.ModuleName:               nil,
	minttypes.ModuleName:                {authtypes.Minter},
	stakingtypes.BondedPoolName:         {authtypes.Burner, authtypes.Staking},
	stakingtypes.NotBondedPoolName:      {authtypes.Burner, authtypes.Staking},
	stakingtypes.KeyRotationFeePoolName: {authtypes.Burner},
	govtypes.ModuleName:                 {authtypes.Burner},
	market.Name:                         {authtypes.Minter, authtypes.Burner},
	market.Treasury:                     nil,
	channel.Name:                        nil,
}

// indexed has the attributes of events that are marked for CometBFT's index: none
// of ours, since the node has an index of its own. An empty list would mark all.
var indexed = []string{"tx.height"}

// Authority is the one account that may change parameters: governance.
func Authority() string {
	usePrefix()
	return authtypes.NewModuleAddress(govtypes.ModuleName).String()
}

// StatesKept is for how many of the newest blocks the state can be asked for,
// with proofs.
const StatesKept = 100

// New wires the application and loads its latest state.
func New(c Config) (*App, error) {
	usePrefix()
	if c.Upgrades == nil {
		c.Upgrades = Upgrades
	}
	reg, err := codectypes.NewInterfaceRegistryWithOptions(codectypes.InterfaceRegistryOptions{
		ProtoFiles: proto.HybridResolver,
		SigningOptions: txsigning.Options{
			AddressCodec:          accounts(),
			ValidatorAddressCodec: operators(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	cdc := codec.NewProtoCodec(reg)
	amino := codec.NewLegacyAmino()
	std.RegisterLegacyAminoCodec(amino)
	std.RegisterInterfaces(reg)
	keys.Register(reg)
	txc, err := authtx.NewTxConfigWithOptions(cdc, authtx.ConfigOptions{
		EnabledSignModes: authtx.DefaultSignModes,
		SigningContext:   reg.SigningContext(),
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	a := &App{
		BaseApp: baseapp.NewBaseApp("torg", sdkslog.NewCustomLogger(c.Log), c.DB, txc.TxDecoder(),
			baseapp.SetChainID(c.ChainID),
			baseapp.SetPruning(pruningtypes.NewCustomPruningOptions(StatesKept, 10)),
			// A tree that prunes in the background is never told to stop, and
			// panics when it finds the database closed.
			baseapp.SetIAVLSyncPruning(true),
			// A second copy of each newest value saves reads. Nearly all keys here
			// are written as often as read, and a write walks the tree anyway.
			baseapp.SetIAVLDisableFastNode(true),
			// Nodes in memory, for each module's tree; about 0.6 kB each. The same
			// bytes hold four times as many in the database's cache of blocks.
			baseapp.SetIAVLCacheSize(30_000),
			baseapp.SetMinRetainBlocks(c.Snapshots.retain(c.RetainBlocks)),
			baseapp.SetIndexEvents(indexed),
			baseapp.SetOptimisticExecution(),
		),
		Codec: cdc, Interfaces: reg, Tx: txc,
		validator: c.Validator,
	}
	a.SetInterfaceRegistry(reg)
	a.SetTxEncoder(txc.TxEncoder())
	a.SetBlockSTMTxRunner(txnrunner.NewDefaultRunner(a.decode)) // one after the other
	if c.Lone {
		a.SetAddrPeerFilter(refusePeer)
		a.SetIDPeerFilter(refusePeer)
	}
	if c.Home != "" && !c.Lone {
		if err := a.setSnapshots(c); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	if err := a.wire(c, amino); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := a.LoadLatestVersion(); err != nil {
		return nil, fmt.Errorf("ledger: load state: %w", err)
	}
	return a, nil
}

// wire makes the keepers, then the modules, then their order in a block.
func (a *App) wire(c Config, amino *codec.LegacyAmino) error {
	cdc, authority := a.Codec, Authority()
	store := map[string]*storetypes.KVStoreKey{}
	for _, name := range []string{
		authtypes.StoreKey, banktypes.StoreKey, stakingtypes.StoreKey, slashingtypes.StoreKey,
		distrtypes.StoreKey, minttypes.StoreKey, govtypes.StoreKey, upgradetypes.StoreKey,
		evidencetypes.StoreKey, feegrant.StoreKey, authzkeeper.StoreKey, consensustypes.StoreKey,
		market.Name, channel.Name,
	} {
		store[name] = storetypes.NewKVStoreKey(name)
	}
	a.MountKVStores(store)

	params := consensuskeeper.NewKeeper(cdc, runtime.NewKVStoreService(store[consensustypes.StoreKey]), authority, runtime.EventService{})
	a.SetParamStore(params.ParamsStore)
	a.Accounts = authkeeper.NewAccountKeeper(cdc, runtime.NewKVStoreService(store[authtypes.StoreKey]), authtypes.ProtoBaseAccount,
		permissions, accounts(), square.Prefix, authority, authkeeper.WithUnorderedTransactions(true))
	a.Bank = bankkeeper.NewBaseKeeper(cdc, runtime.NewKVStoreService(store[banktypes.StoreKey]), a.Accounts, moduleAddresses(), authority, a.Logger())
	a.Staking = stakingkeeper.NewKeeper(cdc, runtime.NewKVStoreService(store[stakingtypes.StoreKey]), a.Accounts, a.Bank, authority, operators(), consensusAddresses())
	mints := mintkeeper.NewKeeper(cdc, runtime.NewKVStoreService(store[minttypes.StoreKey]), a.Staking, a.Accounts, a.Bank, authtypes.FeeCollectorName, authority)
	distr := distrkeeper.NewKeeper(cdc, runtime.NewKVStoreService(store[distrtypes.StoreKey]), a.Accounts, a.Bank, a.Staking, authtypes.FeeCollectorName, authority)
	slash := slashingkeeper.NewKeeper(cdc, amino, runtime.NewKVStoreService(store[slashingtypes.StoreKey]), a.Staking, authority)
	a.Staking.SetHooks(stakingtypes.NewMultiStakingHooks(distr.Hooks(), slash.Hooks()))
	a.feegrant = feegrantkeeper.NewKeeper(cdc, runtime.NewKVStoreService(store[feegrant.StoreKey]), a.Accounts)
	grants := authzkeeper.NewKeeper(runtime.NewKVStoreService(store[authzkeeper.StoreKey]), cdc, a.MsgServiceRouter(), a.Accounts)
	upgrades := upgradekeeper.NewKeeper(nil, runtime.NewKVStoreService(store[upgradetypes.StoreKey]), cdc, c.Home, a.BaseApp, authority)
	evid := evidencekeeper.NewKeeper(cdc, runtime.NewKVStoreService(store[evidencetypes.StoreKey]), a.Staking, slash, accounts(), runtime.ProvideCometInfoService())
	govs := govkeeper.NewKeeper(cdc, runtime.NewKVStoreService(store[govtypes.StoreKey]), a.Accounts, a.Bank, distr, a.MsgServiceRouter(),
		govtypes.DefaultConfig(), authority, govkeeper.NewDefaultCalculateVoteResultsAndVotingPower(a.Staking))
	leases, err := market.NewKeeper(cdc, runtime.NewKVStoreService(store[market.Name]), a.Bank, authority, c.Trades, owner())
	if err != nil {
		return err
	}
	channels, err := channel.NewKeeper(cdc, runtime.NewKVStoreService(store[channel.Name]), a.Bank, leases)
	if err != nil {
		return err
	}
	leases.SetKin(kinship(a.feegrant, grants, distr))
	a.Market = leases

	a.modules = module.NewManager(
		authModule{a.Accounts},
		bank.NewAppModule(cdc, a.Bank, a.Accounts),
		staking.NewAppModule(cdc, a.Staking, a.Accounts, a.Bank),
		slashing.NewAppModule(cdc, slash, a.Accounts, a.Bank, a.Staking, a.Interfaces),
		distribution.NewAppModule(cdc, distr, a.Accounts, a.Bank, a.Staking),
		mint.NewAppModule(cdc, mints, a.Accounts, nil),
		gov.NewAppModule(cdc, govs, a.Accounts, a.Bank),
		upgradeModule{upgrades},
		evidence.NewAppModule(*evid),
		feegrantmodule.NewAppModule(cdc, a.Accounts, a.Bank, a.feegrant, a.Interfaces),
		authzmodule.NewAppModule(cdc, grants, a.Accounts, a.Bank, a.Interfaces),
		consensusModule{params},
		market.Module{Keeper: leases},
		bond.Module{Market: leases},
		channel.Module{Keeper: channels},
	)
	a.modules.SetOrderPreBlockers(upgradetypes.ModuleName, authtypes.ModuleName)
	a.modules.SetOrderBeginBlockers(minttypes.ModuleName, distrtypes.ModuleName, slashingtypes.ModuleName, evidencetypes.ModuleName,
		stakingtypes.ModuleName, authz.ModuleName)
	// Bank first: it settles what the block moved. Staking last: it answers
	// with the validators of the next block.
	a.modules.SetOrderEndBlockers(banktypes.ModuleName, govtypes.ModuleName, feegrant.ModuleName,
		market.Name, channel.Name, stakingtypes.ModuleName)
	order := []string{
		authtypes.ModuleName, banktypes.ModuleName, distrtypes.ModuleName, stakingtypes.ModuleName, slashingtypes.ModuleName,
		govtypes.ModuleName, minttypes.ModuleName, evidencetypes.ModuleName, authz.ModuleName,
		feegrant.ModuleName, upgradetypes.ModuleName, consensustypes.ModuleName, market.Name, channel.Name,
	}
	a.modules.SetOrderInitGenesis(order...)
	a.modules.SetOrderExportGenesis(order...)

	basic := module.NewBasicManagerFromManager(a.modules, nil)
	basic.RegisterInterfaces(a.Interfaces)
	basic.RegisterLegacyAminoCodec(amino)
	a.configurator = module.NewConfigurator(cdc, a.MsgServiceRouter(), a.GRPCQueryRouter())
	if err := a.modules.RegisterServices(a.configurator); err != nil {
		return err
	}
	a.SetInitChainer(func(ctx sdk.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
		var state map[string]json.RawMessage
		if err := json.Unmarshal(req.AppStateBytes, &state); err != nil {
			return nil, fmt.Errorf("genesis: app_state: %w", err)
		}
		if err := upgrades.SetModuleVersionMap(ctx, a.modules.GetVersionMap()); err != nil {
			return nil, err
		}
		return a.modules.InitGenesis(ctx, cdc, state)
	})
	a.setUpgrades(upgrades, c.Upgrades)
	a.SetBeginBlocker(a.modules.BeginBlock)
	a.SetEndBlocker(a.modules.EndBlock)
	a.setAnte()
	a.setProposals()
	return nil
}

// Basic lists the modules' genesis and REST halves.
func (a *App) Basic() module.BasicManager { return module.NewBasicManagerFromManager(a.modules, nil) }

func accounts() coreaddress.Codec  { return addresscodec.NewBech32Codec(square.Prefix) }
func operators() coreaddress.Codec { return addresscodec.NewBech32Codec(square.Prefix + "valoper") }
func consensusAddresses() coreaddress.Codec {
	return addresscodec.NewBech32Codec(square.Prefix + "valcons")
}

// moduleAddresses are the accounts nobody may send to by accident.
func moduleAddresses() map[string]bool {
	out := map[string]bool{}
	for name := range permissions {
		out[authtypes.NewModuleAddress(name).String()] = true
	}
	delete(out, Authority()) // governance may be paid
	return out
}

// owner tells which module an account is of; none for people's.
func owner() func(sdk.AccAddress) string {
	names := map[string]string{}
	for name := range permissions {
		names[string(authtypes.NewModuleAddress(name))] = name
	}
	return func(a sdk.AccAddress) string { return names[string(a)] }
}

func refusePeer(string) *abci.ResponseQuery {
	return &abci.ResponseQuery{Code: 1, Log: "this ledger has one validator and takes no peers"}
}
