package exact

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// This file is the definition: what each operation computes, written the
// slow and obvious way. The engine must agree with it bit for bit.

// requantise divides by 2^shift, rounding halves up, and saturates to a
// signed number of the given bits.
func requantise(x, shift, bits int64) int64 {
	if shift > 0 {
		x = (x + 1<<(shift-1)) >> shift
	}
	top := int64(1)<<(bits-1) - 1
	return max(-top-1, min(top, x))
}

// floorDiv is the quotient rounded down, for b > 0.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// mean is the sum divided by n, halves rounded up.
func mean(sum int64, n int) int64 { return floorDiv(2*sum+int64(n), 2*int64(n)) }

// normKey brings s >= normKeyLo to a key in [normKeyLo, normKeyHi) by
// dividing it, rounded down, by the least sufficient power of four: 4^e.
func normKey(s int64) (key, e int64) {
	e = int64(max(0, (bits.Len64(uint64(s))-16+1)/2))
	return s >> (2 * e), e
}

// normFactor is the multiplier of a row whose squared deviations sum to s
// (epsilon included).
func normFactor(s int64, table []int32) int64 {
	key, e := normKey(s)
	t := int64(table[key-normKeyLo])
	if e > 0 {
		t = (t + 1<<(e-1)) >> e
	}
	return t
}

// expKey is the index in a table of n exponentials for a score t below the
// row's greatest.
func expKey(t, shift int64, n int) int64 {
	if shift > 0 {
		t = (t + 1<<(shift-1)) >> shift
	}
	return min(t, int64(n)-1)
}

// Interpret runs a checked program on a whole sequence and returns the
// outputs, each [rows][columns]. It verifies every bound as it goes and
// reports an error where one is exceeded, which for a program that passed
// Check means a bug.
func (p *Program) Interpret(input [][]int32) ([][][]int32, error) {
	return p.InterpretEnv(Env{}, input)
}

// InterpretEnv is Interpret in an environment.
func (p *Program) InterpretEnv(env Env, input [][]int32) ([][][]int32, error) {
	if err := env.Check(); err != nil {
		return nil, err
	}
	if len(input) == 0 || len(input) > p.Rows {
		return nil, fmt.Errorf("exact: %d rows of input, want 1 to %d", len(input), p.Rows)
	}
	values := make([][][]int32, len(p.Ops))
	for i, op := range p.Ops {
		var x [][]int32
		if len(op.In) > 0 {
			x = values[op.In[0]]
		}
		var c Const
		if len(op.Consts) > 0 {
			c = p.Consts[op.Consts[0]]
		}
		out := make([][]int32, len(input))
		for t := range out {
			var row []int64
			switch op.Kind {
			case Input:
				if len(input[t]) != int(op.Params[0]) {
					return nil, fmt.Errorf("exact: input row %d has %d columns", t, len(input[t]))
				}
				for _, e := range input[t] {
					if int64(e) < op.Params[1] || int64(e) > op.Params[2] {
						return nil, fmt.Errorf("exact: input %d outside [%d, %d]", e, op.Params[1], op.Params[2])
					}
					row = append(row, int64(e))
				}
			case Position:
				row = []int64{int64(t)}
			case Gather:
				at := int(x[t][0]) * c.Cols
				for _, e := range c.Data[at : at+c.Cols] {
					row = append(row, int64(e))
				}
			case Add:
				for j, e := range values[op.In[1]][t] {
					row = append(row, int64(x[t][j])+int64(e))
				}
			case Offset:
				for j, e := range c.Data {
					row = append(row, int64(x[t][j])+int64(e))
				}
			case MatMul:
				for j := range c.Cols {
					var sum int64
					for k := range c.Rows {
						sum += int64(x[t][k]) * int64(c.Data[k*c.Cols+j])
					}
					row = append(row, sum)
				}
			case Requantise:
				for _, e := range x[t] {
					row = append(row, requantise(int64(e), op.Params[0], op.Params[1]))
				}
			case Table:
				for _, e := range x[t] {
					row = append(row, int64(c.Data[int64(e)-op.Params[0]]))
				}
			case LayerNorm:
				var sum, squares int64
				for _, e := range x[t] {
					sum += int64(e)
				}
				m := mean(sum, len(x[t]))
				for _, e := range x[t] {
					squares += (int64(e) - m) * (int64(e) - m)
				}
				f := normFactor(squares+op.Params[0], c.Data)
				for _, e := range x[t] {
					y := (int64(e) - m) * f
					if y <= -Limit || y >= Limit {
						return nil, errors.New("exact: layernorm left the bounds")
					}
					row = append(row, requantise(y, op.Params[1], 31))
				}
			case Attention:
				r, err := attend(x[t], values[op.In[1]][:t+1], values[op.In[2]][:t+1], c.Data, int(op.Params[0]), op.Params[1])
				if err != nil {
					return nil, err
				}
				row = r
			case ArgMax:
				best := 0
				for j, e := range x[t] {
					if e > x[t][best] {
						best = j
					}
				}
				row = []int64{int64(best)}
			case Arrange:
				for _, from := range c.Data {
					if from < 0 {
						row = append(row, 0)
						continue
					}
					row = append(row, int64(x[t][from]))
				}
			case BlockMatMul:
				for b := range int(op.Params[0]) {
					block := x[t][b*c.Rows : (b+1)*c.Rows]
					for j := range c.Cols {
						var sum int64
						for k, e := range block {
							sum += int64(e) * int64(c.Data[k*c.Cols+j])
						}
						row = append(row, sum)
					}
				}
			case BlockMax:
				size := len(x[t]) / int(op.Params[0])
				for b := range int(op.Params[0]) {
					row = append(row, int64(slices.Max(x[t][b*size:(b+1)*size])))
				}
			case Multiply:
				for j, e := range values[op.In[1]][t] {
					row = append(row, int64(x[t][j])*int64(e))
				}
			case RMSNorm:
				var squares int64
				for _, e := range x[t] {
					squares += int64(e) * int64(e)
				}
				f := normFactor(squares+op.Params[0], c.Data)
				for _, e := range x[t] {
					y := int64(e) * f
					if y <= -Limit || y >= Limit {
						return nil, errors.New("exact: rmsnorm left the bounds")
					}
					row = append(row, requantise(y, op.Params[1], 31))
				}
			case FullAttention:
				r, err := attend(x[t], values[op.In[1]], values[op.In[2]], c.Data, int(op.Params[0]), op.Params[1])
				if err != nil {
					return nil, err
				}
				row = r
			case MeanRows:
				for j := range x[t] {
					var sum int64
					for _, other := range x {
						sum += int64(other[j])
					}
					row = append(row, mean(sum, len(x)))
				}
			case Noise:
				words := make([]uint16, op.Params[0])
				env.words(t, words)
				for _, w := range words {
					row = append(row, env.noise(c.Data[w]))
				}
			default:
				return nil, fmt.Errorf("exact: unknown kind %d", op.Kind)
			}
			out[t] = make([]int32, len(row))
			for j, e := range row {
				if e <= -Limit || e >= Limit {
					return nil, fmt.Errorf("exact: operation %d (%s) left the bounds: %d", i, op.Kind, e)
				}
				out[t][j] = int32(e)
			}
			// Later rows may look back at this one.
			values[i] = out[:t+1]
		}
	}
	outs := make([][][]int32, len(p.Outputs))
	for i, v := range p.Outputs {
		outs[i] = values[v]
	}
	return outs, nil
}

// attend is one row of attention: q against the given keys and values.
func attend(q []int32, keys, values [][]int32, table []int32, heads int, shift int64) ([]int64, error) {
	out := make([]int64, len(q))
	width := len(q) / heads
	for h := range heads {
		from, to := h*width, (h+1)*width
		scores := make([]int64, len(keys))
		top := int64(-Limit)
		for j, k := range keys {
			for c := from; c < to; c++ {
				scores[j] += int64(q[c]) * int64(k[c])
			}
			top = max(top, scores[j])
		}
		var z int64
		for j, s := range scores {
			if top-s >= Limit {
				return nil, errors.New("exact: attention scores left the bounds")
			}
			e := int64(table[expKey(top-s, shift, len(table))])
			z += e
			for c := from; c < to; c++ {
				out[c] += e * int64(values[j][c])
			}
		}
		for c := from; c < to; c++ {
			if out[c] <= -Limit || out[c] >= Limit {
				return nil, errors.New("exact: attention sum left the bounds")
			}
			out[c] = floorDiv(out[c], z)
		}
	}
	return out, nil
}
