package admin

import (
	"fmt"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"
)

// maxProfile bounds how long a profile may take.
const maxProfile = 60 * time.Second

// profile writes a profile of this process. A profile shows what others ask and
// how fast, so it is here and at no other door.
func (h *handler) profile(w http.ResponseWriter, r *http.Request) error {
	if err := h.admit(r); err != nil {
		return err
	}
	took := 10 * time.Second
	if s := r.URL.Query().Get("seconds"); s != "" {
		n, err := strconv.ParseUint(s, 10, 16)
		if took = time.Duration(n) * time.Second; err != nil || took < time.Second || took > maxProfile {
			return refuse(http.StatusBadRequest, "bad_request", fmt.Sprintf("seconds: want 1 to %d", maxProfile/time.Second))
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	name := r.PathValue("profile")
	timed := func(start func() error, stop func()) error {
		if err := start(); err != nil {
			return refuse(http.StatusConflict, "busy", err.Error())
		}
		defer stop()
		select {
		case <-time.After(took):
		case <-r.Context().Done():
		}
		return nil
	}
	switch name {
	case "profile":
		return timed(func() error { return pprof.StartCPUProfile(w) }, pprof.StopCPUProfile)
	case "trace":
		return timed(func() error { return trace.Start(w) }, trace.Stop)
	}
	p := pprof.Lookup(name)
	if p == nil {
		return refuse(http.StatusNotFound, "not_found", fmt.Sprintf("no profile is called %q: there is profile, trace, heap, allocs, goroutine, block, mutex and threadcreate", name))
	}
	if err := p.WriteTo(w, 0); err != nil {
		return fmt.Errorf("write profile %s: %w", name, err)
	}
	return nil
}
