package node

import (
	"context"
	"log/slog"
	"sync/atomic"

	cmtlog "github.com/cometbft/cometbft/libs/log"
)

// libraryLog passes what CometBFT and the SDK log on to slog, one level down:
// what they call info is of interest only to somebody debugging consensus. Once
// the node stops it passes on nothing: their parts end in no particular order
// and complain about each other.
type libraryLog struct {
	slog.Handler
	stopping *atomic.Bool
}

func (l libraryLog) Enabled(ctx context.Context, level slog.Level) bool {
	return !l.stopping.Load() && l.Handler.Enabled(ctx, demoted(level))
}

func (l libraryLog) Handle(ctx context.Context, r slog.Record) error {
	r.Level = demoted(r.Level)
	return l.Handler.Handle(ctx, r)
}

func (l libraryLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return libraryLog{l.Handler.WithAttrs(attrs), l.stopping}
}

func (l libraryLog) WithGroup(name string) slog.Handler {
	return libraryLog{l.Handler.WithGroup(name), l.stopping}
}

func demoted(level slog.Level) slog.Level {
	if level == slog.LevelInfo {
		return slog.LevelDebug
	}
	return level
}

// cometLog is a slog.Logger as CometBFT wants it, without its debug flood.
type cometLog struct{ *slog.Logger }

func (l cometLog) Debug(string, ...any)         {}
func (l cometLog) Info(msg string, kv ...any)   { l.Logger.Info(msg, kv...) }
func (l cometLog) Error(msg string, kv ...any)  { l.Logger.Error(msg, kv...) }
func (l cometLog) With(kv ...any) cmtlog.Logger { return cometLog{l.Logger.With(kv...)} }
