package exact

import (
	"encoding/binary"
	"fmt"

	"lukechampine.com/blake3"
)

// Env is what a run's result may depend on besides program and input: the
// public randomness that Noise draws from. The zero Env is no noise.
//
// The token with the greatest sum of logit and noise is a draw from the
// softmax of the logits at that temperature (Gumbel-max: Gumbel 1954; Maddison,
// Tarlow and Minka 2014). Whoever knows the seed computes the noise, so a proof
// of the rest proves the draw.
type Env struct {
	Seed        [32]byte
	Temperature int // thousandths, 0 to MaxTemperature
}

// MaxTemperature bounds Env.Temperature and Request.Temperature.
const MaxTemperature = 100_000

// noiseQuantiles is how many entries a table of Noise has: one for each
// 16-bit word.
const noiseQuantiles = 1 << 16

const noiseDomain = "torg exact noise 1"

// Check reports whether there is such an environment.
func (e Env) Check() error {
	if e.Temperature < 0 || e.Temperature > MaxTemperature {
		return fmt.Errorf("exact: temperature of %d thousandths, want 0 to %d", e.Temperature, MaxTemperature)
	}
	return nil
}

// Noise fills out, one element a column, with the noise of row t that an
// operation with the given table adds.
func (e Env) Noise(t int, table, out []int32) {
	if e.Temperature == 0 {
		clear(out)
		return
	}
	words := make([]uint16, len(out))
	e.words(t, words)
	for j, w := range words {
		out[j] = int32(e.noise(table[w]))
	}
}

// words fills w with the words of row t: BLAKE3 in its extended output, keyed
// by the seed, of "torg exact noise 1" || t as 8 bytes little-endian, taken as
// 16-bit words, little-endian.
func (e *Env) words(t int, w []uint16) {
	h := blake3.New(32, e.Seed[:])
	h.Write(binary.LittleEndian.AppendUint64([]byte(noiseDomain), uint64(t)))
	out := h.XOF()
	var b [1024]byte
	for len(w) > 0 {
		n := min(len(w), len(b)/2)
		out.Read(b[:2*n]) // 2^64 bytes can be read
		for i := range n {
			w[i] = binary.LittleEndian.Uint16(b[2*i:])
		}
		w = w[n:]
	}
}

// noise is a quantile at the temperature, halves rounded up.
func (e *Env) noise(quantile int32) int64 {
	return floorDiv(2*int64(e.Temperature)*int64(quantile)+1000, 2000)
}
