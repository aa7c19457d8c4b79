module github.com/torg-network/torg/test/gnark

go 1.26.5

require (
	github.com/consensys/gnark-crypto v0.18.0
	github.com/torg-network/torg v0.0.0
)

require (
	github.com/bits-and-blooms/bitset v1.24.5 // indirect
	github.com/leanovate/gopter v0.2.11 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/torg-network/torg => ../..
