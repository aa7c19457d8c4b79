// Package nano is the bundled model: a byte-level transformer of a million
// parameters, trained by package train on three novels and quantised by
// package exact/quantise. CARD.md says what it is and how to make it again.
package nano

import (
	_ "embed"
	"fmt"
	"sync"

	"github.com/torg-network/torg/exact"
)

// Name is the model's name.
const Name = "torg-nano"

//go:embed torg-nano.exact
var file []byte

// Card is the model card, in Markdown.
//
//go:embed CARD.md
var Card string

// Model returns the bundled model. It is loaded once.
var Model = sync.OnceValue(func() *exact.Model {
	m, err := exact.Load(file)
	if err != nil {
		panic(fmt.Sprintf("nano: the bundled model is damaged: %v", err))
	}
	return m
})

// File returns a copy of the bundled model file.
func File() []byte { return append([]byte(nil), file...) }
