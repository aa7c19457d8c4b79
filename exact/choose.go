package exact

import "fmt"

// Choose is the token that a generation takes at position index of its
// completion when the model gives it these logits: the sampling rule alone, for
// who has the logits from elsewhere, as from a proof. There is one logit for
// each token.
func Choose(req Request, logitBits int, logits []int32, index int) (int, error) {
	if err := req.check(); err != nil {
		return 0, err
	}
	if len(logits) == 0 || logitBits < 0 || logitBits > 16 || index < 0 || index >= req.MaxTokens {
		return 0, fmt.Errorf("exact: choose token %d from %d logits of %d fractional bits", index, len(logits), logitBits)
	}
	return newSampler(len(logits)).choose(logits, uint(logitBits), &req, index), nil
}

// Ending says how many of the claimed tokens a generation for the request can
// have at most, whatever the model says, and how it ends after them: empty if it
// would go on.
func Ending(req Request, claimed []int) (possible int, f Finish) {
	end := ending{stops: req.Stop}
	for _, id := range claimed[:min(len(claimed), req.MaxTokens)] {
		if id < 0 || id > 255 {
			return possible, ""
		}
		possible++
		if end.add(byte(id)) {
			return possible, Stop
		}
	}
	if possible == req.MaxTokens {
		f = Length
	}
	return possible, f
}
