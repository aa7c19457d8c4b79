package gateway

import "time"

// SetBodyTime changes how long a body may take, until restore.
func SetBodyTime(d time.Duration) (restore func()) {
	was := bodyTime
	bodyTime = d
	return func() { bodyTime = was }
}

// SetWriteTime changes how long a write may take, until restore.
func SetWriteTime(d time.Duration) (restore func()) {
	was := writeTime
	writeTime = d
	return func() { writeTime = was }
}
