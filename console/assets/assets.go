// Package assets is what the console's pages load: one style sheet, htmx and the
// islands, embedded. Each is served under a name that holds a hash of its
// content, so a browser keeps it for good and a new build is seen at once, and
// is compressed once, when the process starts.
//
// dist is generated (see console/gen), vendor is others' work as they publish
// it: htmx 2.0.11 (0BSD) and uPlot 1.6.32 (MIT).
package assets

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed dist vendor/htmx.min.js
var files embed.FS

// Prefix is where the handler is mounted.
const Prefix = "/assets/"

type asset struct {
	url, kind      string
	plain, gzipped []byte
}

var byName, byURL = load()

func load() (byName, byURL map[string]*asset) {
	byName, byURL = map[string]*asset{}, map[string]*asset{}
	err := fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(p)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		name := path.Base(p)
		base, ext, _ := strings.Cut(name, ".")
		a := &asset{url: Prefix + base + "." + hex.EncodeToString(sum[:6]) + "." + ext, plain: b}
		switch path.Ext(name) {
		case ".js":
			a.kind = "text/javascript; charset=utf-8"
		case ".css":
			a.kind = "text/css; charset=utf-8"
		default:
			return fmt.Errorf("%s: what kind of file is this?", p)
		}
		var z bytes.Buffer
		w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
		if err != nil {
			return err
		}
		w.Write(b) // to memory
		w.Close()
		a.gzipped = z.Bytes()
		byName[name], byURL[a.url] = a, a
		return nil
	})
	if err != nil {
		panic("console assets: " + err.Error()) // what is embedded does not change after the build
	}
	return byName, byURL
}

// URL is where a file of this name is served; it panics if there is none.
func URL(name string) string {
	a := byName[name]
	if a == nil {
		panic("console assets: no " + name + "; go generate ./console makes it")
	}
	return a.url
}

// Weight is how many bytes a file takes on the wire.
func Weight(name string) int { return len(byName[name].gzipped) }

// ServeHTTP answers below Prefix.
func ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := byURL[r.URL.Path]
	if a == nil {
		http.NotFound(w, r) // an old page's: it is loaded anew with the next
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Encoding")
	b := a.plain
	if accepts(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		b = a.gzipped
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	if r.Method != http.MethodHead {
		w.Write(b)
	}
}

// accepts reports whether an Accept-Encoding header takes gzip.
func accepts(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return strings.ReplaceAll(q, " ", "") != "q=0"
		}
	}
	return false
}
