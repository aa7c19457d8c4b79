// Package ui is what all pages of the console look like and how they answer: the
// layout, the parts pages are made of, how money, times and ids are written, and
// errors that are pages.
package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/square"
)

// Handler answers a request or says why not: what it returns becomes a page,
// see Failure.
type Handler func(http.ResponseWriter, *http.Request) error

// Router takes a page's routes, by http.ServeMux pattern. Behind it every
// request has a session; a POST has shown that it comes from a page of ours.
type Router interface {
	Handle(pattern string, h Handler)
}

// Link is a page's place in the navigation.
type Link struct {
	Path, Title string
	OwnerOnly   bool
}

// Page is one folder of the console.
type Page interface {
	Link() Link
	Routes(Router)
}

// Theme is how a browser wants its pages.
type Theme string

const (
	System Theme = "system"
	Light  Theme = "light"
	Dark   Theme = "dark"
)

// Request is what every page of one request knows. Templates reach it by Of.
type Request struct {
	Session *session.Session // nil on the pages before a login
	Theme   Theme
	Now     time.Time
	Path    string
	Nav     []Link
	Square  string // the ledger's name
	// Goods is the path of a good's own page; empty where its trade has none.
	Goods func(trade string, spec square.Hash) string
}

// Viewer is who looks; the zero Viewer before a login.
func (r *Request) Viewer() session.Viewer {
	if r.Session == nil {
		return session.Viewer{}
	}
	return r.Session.Viewer
}

// CSRF is the token that each form carries in the field "csrf".
func (r *Request) CSRF() string {
	if r.Session == nil {
		return ""
	}
	return r.Session.CSRF
}

type requestKey struct{}

// With puts a request's facts into its context.
func With(ctx context.Context, r *Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// Of is what With put there.
func Of(ctx context.Context) *Request {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return r
	}
	return &Request{Theme: System, Now: time.Now()}
}

// View is what a handler shows.
type View struct {
	Title   string
	Islands []string // names of TypeScript islands: "chart" loads chart.js
	Status  int      // 200 when 0
}

// Render writes a whole page. It is made in memory first, so that what fails
// half-way is an error page and not half a page.
func Render(w http.ResponseWriter, r *http.Request, v View, body templ.Component) error {
	return write(w, r, v.Status, layout(v, body))
}

// Fragment writes a part of a page, for htmx and islands.
func Fragment(w http.ResponseWriter, r *http.Request, part templ.Component) error {
	return write(w, r, 0, part)
}

// IsFragment reports whether htmx asks for a part of the page.
func IsFragment(r *http.Request) bool {
	return r.Header.Get("HX-Request") == "true" && r.Header.Get("HX-History-Restore-Request") != "true"
}

func write(w http.ResponseWriter, r *http.Request, status int, c templ.Component) error {
	var b bytes.Buffer
	if err := c.Render(r.Context(), &b); err != nil {
		return fmt.Errorf("render: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Add("Vary", "HX-Request")
	if status != 0 {
		w.WriteHeader(status)
	}
	_, _ = w.Write(b.Bytes()) // a browser that went away
	return nil
}

// JSON writes an answer for an island.
func JSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b) // a browser that went away
	return nil
}

// Failure is an error with a page of its own: what happened and the way out.
type Failure struct {
	Status int
	Title  string
	Words  string
	cause  error
}

func (f *Failure) Error() string {
	if f.cause != nil {
		return f.Title + ": " + f.cause.Error()
	}
	return f.Title + ": " + f.Words
}

func (f *Failure) Unwrap() error { return f.cause }

// BadInput refuses what a person wrote: field names it, words say what would do.
func BadInput(field, words string) *Failure {
	return &Failure{Status: http.StatusBadRequest, Title: "That does not fit", Words: field + ": " + words}
}

// NotFound says that there is no such thing, or none the viewer may see: the two
// look the same.
func NotFound(what string) *Failure {
	return &Failure{Status: http.StatusNotFound, Title: "Nothing here",
		Words: "There is no " + what + " by that name, or it is not yours to see, or it is long past and forgotten."}
}

// Forbidden refuses what a viewer may not do.
func Forbidden(words string) *Failure {
	return &Failure{Status: http.StatusForbidden, Title: "Not yours to do", Words: words}
}

// SentOnce refuses a form with @Once that was sent before. A handler asks it last,
// when nothing but paying is left to do.
func SentOnce(r *http.Request) error {
	if Of(r.Context()).Session.Spend(r.PostForm.Get("once")) {
		return nil
	}
	return &Failure{Status: http.StatusConflict, Title: "Sent already",
		Words: "This form was sent before, or was open for long. What came of it the first time is in the wallet’s story and in the receipts; to do it again, open the page again."}
}

// Failed is what a page makes of any error.
func Failed(err error) *Failure {
	var f *Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, source.ErrNotFound):
		f = NotFound("such thing")
	case errors.Is(err, context.DeadlineExceeded):
		f = &Failure{Status: http.StatusGatewayTimeout, Title: "The ledger is slow to answer", Words: "Nothing is lost. Try again in a moment; torg doctor says what is wrong if it lasts."}
	default:
		f = &Failure{Status: http.StatusInternalServerError, Title: "Something went wrong", Words: square.Clip(err.Error(), 400)}
	}
	f.cause = err
	return f
}

// RenderFailure writes an error's page, or for a fragment its short form.
func RenderFailure(w http.ResponseWriter, r *http.Request, f *Failure) {
	var err error
	if r.Header.Get("Accept") == "application/json" { // an island
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(f.Status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": f.Title, "message": f.Words})
		return
	}
	if IsFragment(r) {
		err = write(w, r, f.Status, Alert(f.Title, f.Words))
	} else {
		err = write(w, r, f.Status, layout(View{Title: f.Title}, failurePage(f)))
	}
	if err != nil {
		http.Error(w, f.Title, f.Status)
	}
}

// active reports whether a navigation link leads to the page that is shown.
func active(link, path string) bool {
	if link == "/" {
		return path == "/"
	}
	return path == link || strings.HasPrefix(path, link+"/")
}
