// Package torg holds the documents of this repository, so that the binary can
// show them.
package torg

import "embed"

// Documents are the README and everything in docs.
//
//go:embed README.md docs
var Documents embed.FS
