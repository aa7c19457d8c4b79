// Package docs is the console's reading room: the repository's documents,
// rendered from their Markdown once at the start, with a search over their
// sections. Raw HTML in a document is left out, and links between documents
// lead to each other here.
package docs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"

	"github.com/torg-network/torg/console/ui"
)

// Page shows the documents.
type Page struct {
	files     fs.FS
	documents []*document
	index     index
}

// document is one Markdown file.
type document struct {
	file     string // "docs/zkml.md"
	slug     string // "zkml"
	title    string
	decision bool // one of docs/decisions
	html     string
	sections []*section
}

// section is what stands under one heading.
type section struct {
	of     *document
	anchor string // empty: the document's beginning
	title  string
	level  int
	text   string
}

func (s *section) path() string {
	if s.anchor == "" {
		return s.of.path()
	}
	return s.of.path() + "#" + s.anchor
}

func (d *document) path() string { return "/docs/" + d.slug }

// first are the documents that a reader wants first, in this order.
var first = []string{"README.md", "docs/operating.md", "docs/openai.md", "docs/architecture.md"}

// New reads README.md and every Markdown file below docs.
func New(files fs.FS) (*Page, error) {
	p := &Page{files: files}
	names := []string{"README.md"}
	err := fs.WalkDir(files, "docs", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && path.Ext(name) == ".md" {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("documents: %w", err)
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	for _, name := range names {
		d := &document{file: name, slug: strings.TrimSuffix(strings.TrimPrefix(name, "docs/"), ".md"), decision: strings.HasPrefix(name, "docs/decisions/")}
		if name == "README.md" {
			d.slug = "start"
		}
		p.documents = append(p.documents, d)
	}
	for _, d := range p.documents {
		source, err := fs.ReadFile(files, d.file)
		if err != nil {
			return nil, fmt.Errorf("documents: %w", err)
		}
		if err := p.render(d, source); err != nil {
			return nil, fmt.Errorf("documents: %s: %w", d.file, err)
		}
	}
	p.index = newIndex(p.documents)
	return p, nil
}

func rank(name string) int {
	if i := slices.Index(first, name); i >= 0 {
		return i
	}
	if strings.HasPrefix(name, "docs/decisions/") {
		return len(first) + 1
	}
	return len(first)
}

// Link is the page's place in the navigation.
func (p *Page) Link() ui.Link { return ui.Link{Path: "/docs", Title: "Docs"} }

// Routes mounts the documents, their pictures and the search.
func (p *Page) Routes(r ui.Router) {
	r.Handle("GET /docs", p.search)
	r.Handle("GET /docs/{path...}", p.show)
}

// Render makes HTML of another Markdown file of the repository's, headings a
// level lower than there. It is as safe as the documents: raw HTML is left out.
func (p *Page) Render(file, markdown string) (string, error) {
	d := &document{file: file}
	if err := p.render(d, []byte(markdown)); err != nil {
		return "", fmt.Errorf("document %s: %w", file, err)
	}
	return lower.Replace(d.html), nil
}

// lower makes headings one level lower. Text has no tags: it is escaped.
var lower = strings.NewReplacer("<h1", "<h2", "</h1>", "</h2>", "<h2", "<h3", "</h2>", "</h3>", "<h3", "<h4", "</h3>", "</h4>", "<h4", "<h5", "</h4>", "</h5>")

func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
	slug := r.PathValue("path")
	for _, d := range p.documents {
		if d.slug == slug {
			return ui.Render(w, r, ui.View{Title: d.title}, article(p.documents, d))
		}
	}
	if kind := mime.TypeByExtension(path.Ext(slug)); strings.HasPrefix(kind, "image/") && fs.ValidPath(slug) {
		b, err := fs.ReadFile(p.files, "docs/"+slug)
		if err == nil {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Cache-Control", "private, max-age=300")
			_, err = w.Write(b)
			return err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return ui.NotFound("document")
}

// Most of a query that is looked at.
const (
	maxQuery = 200 // bytes
	maxHits  = 30
)

func (p *Page) search(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query().Get("q")
	if len(query) > maxQuery {
		return ui.BadInput("q", fmt.Sprintf("a search has at most %d bytes", maxQuery))
	}
	return ui.Render(w, r, ui.View{Title: "Docs"}, overview(p.documents, query, p.index.find(query)))
}

func (p *Page) render(d *document, source []byte) error {
	md := goldmark.New(
		goldmark.WithExtensions(extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)), extension.Linkify, extension.Strikethrough),
		goldmark.WithParserOptions(parser.WithAutoHeadingID()),
	)
	root := md.Parser().Parse(text.NewReader(source))
	now := &section{of: d}
	var gone []*ast.Link
	err := ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			title := words(n, source)
			if d.title == "" {
				d.title, now.title, now.level = title, title, 1
				break
			}
			d.sections = append(d.sections, now)
			now = &section{of: d, title: title, level: n.Level}
			if id, ok := n.AttributeString("id"); ok {
				now.anchor = string(id.([]byte))
			}
		case *ast.Paragraph, *ast.TextBlock, *ast.CodeBlock, *ast.FencedCodeBlock, *extast.TableCell:
			now.text += words(n, source) + "\n"
		case *ast.Link:
			to, ok := p.target(d, string(n.Destination))
			if !ok {
				gone = append(gone, n)
			}
			n.Destination = []byte(to)
		case *ast.Image:
			n.Destination = []byte("/docs/" + strings.TrimPrefix(path.Join(path.Dir(d.file), string(n.Destination)), "docs/"))
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return err
	}
	if d.title == "" {
		return errors.New("it has no heading")
	}
	d.sections = append(d.sections, now)
	// A link to a file that is not here becomes what it says.
	for _, l := range gone {
		for c := l.FirstChild(); c != nil; c = l.FirstChild() {
			l.Parent().InsertBefore(l.Parent(), l, c)
		}
		l.Parent().RemoveChild(l.Parent(), l)
	}
	var out bytes.Buffer
	if err := md.Renderer().Render(&out, source, root); err != nil {
		return err
	}
	d.html = accessible.Replace(out.String())
	return nil
}

// accessible makes wide tables and listings scroll by keyboard too, and says
// what heads a column. Text cannot contain any of the left sides: it is escaped.
var accessible = strings.NewReplacer(
	"<table>", `<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>`, "</table>", "</table></div>",
	"<th></th>", "<td></td>", "<th>", `<th scope="col">`, "<th align", `<th scope="col" align`, // the first that fits is taken
	"<pre>", `<pre tabindex="0">`,
)

// target is where a link of a document leads here; not ok if its file is not.
func (p *Page) target(d *document, to string) (string, bool) {
	if strings.Contains(to, "://") || strings.HasPrefix(to, "#") {
		return to, true
	}
	file, anchor, found := strings.Cut(to, "#")
	file = path.Join(path.Dir(d.file), file)
	for _, other := range p.documents {
		if other.file == file {
			if found {
				anchor = "#" + anchor
			}
			return other.path() + anchor, true
		}
	}
	return to, false
}

// words is the text of a node and all below it.
func words(n ast.Node, source []byte) string {
	var b strings.Builder
	if n.Type() == ast.TypeBlock {
		switch n.(type) {
		case *ast.CodeBlock, *ast.FencedCodeBlock:
			lines := n.Lines()
			for i := range lines.Len() {
				s := lines.At(i)
				b.Write(s.Value(source))
			}
		}
	}
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			b.Write(c.Segment.Value(source))
			if c.SoftLineBreak() || c.HardLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(c.Value)
		case *ast.AutoLink:
			b.Write(c.Label(source))
		default:
			if c.Type() == ast.TypeInline {
				b.WriteString(words(c, source))
			}
		}
	}
	return strings.TrimSpace(b.String())
}
