package docs_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/net/html"

	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/console/docs"
)

func TestDocuments(t *testing.T) {
	s := consoletest.Open(t, consoletest.New(), nil)
	b, _ := s.AsKey("reader")
	r := b.Get("/docs").Is(http.StatusOK).Has("Architecture", "Exact models", "Decisions")
	links := 0
	r.Each("a", func(n *html.Node) {
		to := consoletest.Attr(n, "href")
		if !strings.HasPrefix(to, "/docs/") {
			return
		}
		links++
		if page := b.Get(to); page.Code != http.StatusOK {
			t.Errorf("%s: %d", to, page.Code)
		}
	})
	if links < 8 {
		t.Errorf("only %d documents", links)
	}
	s.Stranger().Get("/docs/zkml").Is(http.StatusSeeOther)
}

// Every link of every document between documents, and to a heading, leads
// somewhere, and every picture is there.
func TestLinks(t *testing.T) {
	s := consoletest.Open(t, consoletest.New(), nil)
	b := s.AsOwner()
	anchors := func(path string) map[string]bool {
		ids := map[string]bool{}
		r := b.Get(path)
		if r.Code != http.StatusOK {
			return nil
		}
		for _, e := range []string{"h1", "h2", "h3", "h4"} {
			r.Each(e, func(n *html.Node) { ids[consoletest.Attr(n, "id")] = true })
		}
		return ids
	}
	var pages []string
	b.Get("/docs").Is(http.StatusOK).Each("a", func(n *html.Node) {
		if page, ok := strings.CutPrefix(consoletest.Attr(n, "href"), "/docs/"); ok && !slices.Contains(pages, page) {
			pages = append(pages, page)
		}
	})
	seen := 0
	for _, page := range pages {
		r := b.Get("/docs/" + page).Is(http.StatusOK)
		r.Each("a", func(n *html.Node) {
			to := consoletest.Attr(n, "href")
			if strings.HasPrefix(to, "#") {
				to = "/docs/" + page + to
			}
			if !strings.HasPrefix(to, "/docs/") {
				if !strings.HasPrefix(to, "http") && !strings.HasPrefix(to, "/") {
					t.Errorf("%s: link to %q", page, to)
				}
				return
			}
			seen++
			path, anchor, found := strings.Cut(to, "#")
			if ids := anchors(path); ids == nil || found && anchor != "main" && !ids[anchor] {
				t.Errorf("%s: %s leads nowhere", page, to)
			}
		})
		r.Each("img", func(n *html.Node) {
			got := b.Get(consoletest.Attr(n, "src")).Is(http.StatusOK)
			if !strings.HasPrefix(got.Header().Get("Content-Type"), "image/") {
				t.Errorf("%s: %s is %s", page, consoletest.Attr(n, "src"), got.Header().Get("Content-Type"))
			}
		})
	}
	if seen < 20 {
		t.Errorf("only %d links", seen)
	}
}

func TestSearch(t *testing.T) {
	s := consoletest.Open(t, consoletest.New(), nil)
	b := s.AsOwner()
	r := b.Get("/docs?q=johnson+radius").Is(http.StatusOK)
	first := ""
	r.Each("ol", func(n *html.Node) {
		if first == "" && consoletest.Attr(n, "class") == "docs-hits" {
			first = consoletest.TextOf(n)
		}
	})
	if !strings.Contains(first, "Proofs of inference") && !strings.Contains(first, "radius") {
		t.Errorf("found %.200q", first)
	}
	// The beginning of a word does, in any case.
	b.Get("/docs?q=VOUCH").Is(http.StatusOK).Has("voucher")
	b.Get("/docs?q=voucher+xyzzy").Is(http.StatusOK).Has("0 found", "Nothing says so")
	b.Get("/docs?q=%3Cscript%3E%22").Is(http.StatusOK).Lacks(`<script>"`)
	b.Get("/docs?q=" + strings.Repeat("a", 201)).Is(http.StatusBadRequest).Has("200 bytes")
	b.Get("/docs/nothing").Is(http.StatusNotFound)
	b.Get("/docs/%2e%2e/embed.go").Is(http.StatusNotFound)
	b.Get("/docs/decisions").Is(http.StatusNotFound)
}

// What a document says is text: no markup of its own gets into the page.
func TestHostileDocument(t *testing.T) {
	bad := "# A <b>title\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) <img src=x onerror=alert(1)>\n\n## Q `<table>`\n\n`<pre>` & <th>\n\n| a |\n|:-:|\n| `<td>` |\n"
	p, err := docs.New(fstest.MapFS{"README.md": {Data: []byte(bad)}, "docs/x.md": {Data: []byte("# X\n\n[start](../README.md#a) [gone](../main.go)\n")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs.HTML(p) {
		for _, s := range []string{"<script", "javascript:", "onerror", "<img", "main.go", "style="} {
			if strings.Contains(d, s) {
				t.Errorf("%q is in\n%s", s, d)
			}
		}
	}
	if _, err := docs.New(fstest.MapFS{"README.md": {Data: []byte("no heading")}, "docs/x.md": {Data: []byte("# X")}}); err == nil {
		t.Error("a document without a heading was taken")
	}
}

func FuzzSearch(f *testing.F) {
	p, err := docs.New(fstest.MapFS{"README.md": {Data: []byte("# Torg\n\nA market square où l'on paie.\n\n## Ørsted\n\nÅ ÆØÅ naïve voucher vouchers\n")}, "docs/x.md": {Data: []byte("# X\n\ny")}})
	if err != nil {
		f.Fatal(err)
	}
	for _, q := range []string{"", "voucher", "VOUCH ø", "\xff\xfe", "où l'on", "a b c d e f g h i j", "İ"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, s := range docs.Find(p, query) {
			if strings.TrimSpace(s) == "" {
				t.Errorf("%q found nothing to show", query)
			}
		}
	})
}
