package train

import "errors"

// Windows is the protocol by which held-out loss is measured: it calls score
// with windows text[from:from+n] of at most context+1 bytes of which the
// predictions of bytes first... (counted from the window's start) are to be
// counted. Windows advance by half a context, so every byte but the text's
// first is predicted exactly once, and all but the first half context with at
// least half a context before it.
func Windows(text []byte, context int, score func(window []byte, first int)) {
	half := max(1, context/2)
	for from, first := 0, 1; from+first < len(text); from, first = from+half, context-half+1 {
		score(text[from:min(len(text), from+context+1)], first)
	}
}

// Evaluate returns the mean loss in nats per byte over the given texts by the
// protocol of Windows.
func (p *Params) Evaluate(texts ...[]byte) (float64, error) {
	var sum float64
	var n int
	w := newWorkers()
	passes := map[int]*pass{} // by length: the last window of a text is shorter
	for _, text := range texts {
		Windows(text, p.Shape.Context, func(win []byte, first int) {
			t := len(win) - 1
			a := passes[t]
			if a == nil {
				a = newPass(p, w, 1, t)
				passes[t] = a
			}
			a.forward(win[:t])
			a.loss(win[1:])
			for _, x := range a.rowLoss[first-1:] {
				sum += float64(x)
				n++
			}
		})
	}
	if n == 0 {
		return 0, errors.New("train: nothing to evaluate")
	}
	return sum / float64(n), nil
}

// Forward returns the logits [len(tokens)][Vocab] of the float model.
func (p *Params) Forward(tokens []byte) ([]float32, error) {
	if len(tokens) == 0 || len(tokens) > p.Shape.Context {
		return nil, errors.New("train: need between one token and a full context")
	}
	a := newPass(p, newWorkers(), 1, len(tokens))
	a.forward(tokens)
	return a.logits, nil
}

// Peaks are the greatest magnitudes seen in a layer; a quantiser chooses
// scales by them.
type Peaks struct {
	Query, Key, Value float32
	Up                float32 // before GELU
	AttnOut, MLPOut   float32 // what is added to the residual
}

// Peaks runs the text through the model in windows of one context and returns
// the peaks of each layer.
func (p *Params) Peaks(text []byte) ([]Peaks, error) {
	d, n := p.Shape.Width, p.Shape.Context
	if len(text) < n {
		return nil, errors.New("train: text is shorter than one context")
	}
	a := newPass(p, newWorkers(), 1, n)
	out := make([]Peaks, p.Shape.Layers)
	see := func(to *float32, x float32) { *to = max(*to, x, -x) }
	for ; len(text) >= n; text = text[n:] {
		a.forward(text[:n])
		for i := range out {
			o, lp := &out[i], &a.layers[i]
			for r := range n {
				for j := range d {
					see(&o.Query, lp.qkv[r*3*d+j])
					see(&o.Key, lp.qkv[r*3*d+d+j])
					see(&o.Value, lp.qkv[r*3*d+2*d+j])
					see(&o.AttnOut, lp.mid[r*d+j]-a.x[i][r*d+j])
					see(&o.MLPOut, a.x[i+1][r*d+j]-lp.mid[r*d+j])
				}
			}
			for _, x := range lp.h {
				see(&o.Up, x)
			}
		}
	}
	return out, nil
}

// GELU is the activation between Up and Down.
func GELU(x float32) float32 {
	var y, th [1]float32
	gelu(y[:], th[:], []float32{x})
	return y[0]
}
