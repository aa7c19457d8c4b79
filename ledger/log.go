package ledger

import "log/slog"

// quiet is the log of applications that live for one computation.
var quiet = slog.New(slog.DiscardHandler)
