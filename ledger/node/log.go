package node

import (
	"log/slog"

	cmtlog "github.com/cometbft/cometbft/libs/log"
)

// cometLog passes CometBFT's log to slog, one level down: what it calls info is
// of interest only to somebody debugging consensus.
type cometLog struct{ *slog.Logger }

func (l cometLog) Debug(string, ...any)         {}
func (l cometLog) Info(msg string, kv ...any)   { l.Logger.Debug(msg, kv...) }
func (l cometLog) Error(msg string, kv ...any)  { l.Logger.Error(msg, kv...) }
func (l cometLog) With(kv ...any) cmtlog.Logger { return cometLog{l.Logger.With(kv...)} }
