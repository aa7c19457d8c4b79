// Package infer is the console's pages of the trade of inference: the chat and the
// models. They are here and not with the trade because they are made of the same
// templates, scripts and styles as all pages.
package infer

import (
	"context"
	"net/http"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/console/infer/ask"
	"github.com/torg-network/torg/console/infer/models"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/square"
)

// Pages are the pages, for a console's Config. api is the door of inference, which
// answers questions as it does any client's.
func Pages(r console.Room, m ask.Models, known func(context.Context, square.Hash) (models.Known, error), api http.Handler) []ui.Page {
	return []ui.Page{ask.New(m, r.Desk, r.Keys, api), models.New(r.Feed, r.Ledger, r.Desk, known, r.Docs)}
}

// Path is where a model has its page.
func Path(spec square.Hash) string { return "/models/" + spec.String() }
