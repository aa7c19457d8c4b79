package train

// rng is SplitMix64 (Steele, Lea and Flood, 2014): a counter run through a
// mixing function, so that any stream can be started at any point.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// normal is close to a standard normal number: twelve uniform 16-bit integers
// summed exactly, so that no elementary function is involved.
func (r *rng) normal() float32 {
	var sum int64
	for range 3 {
		w := r.next()
		for range 4 {
			sum += int64(w & 0xffff)
			w >>= 16
		}
	}
	return float32(sum-6*0xffff) / 0x10000
}
