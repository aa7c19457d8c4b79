package gateway

import "time"

// SetBodyTime changes how long a body may take, until restore.
func SetBodyTime(d time.Duration) (restore func()) {
	was := bodyTime
	bodyTime = d
	return func() { bodyTime = was }
}
