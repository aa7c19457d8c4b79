package ask

import "net/http"

// Asked is what a form asks, as the gateway would be sent it.
func Asked(r *http.Request) (body []byte, err error) {
	q, err := parse(r, false)
	if err != nil {
		return nil, err
	}
	return q.body(true)
}
