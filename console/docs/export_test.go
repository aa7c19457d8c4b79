package docs

// HTML is what the documents became.
func HTML(p *Page) (out []string) {
	for _, d := range p.documents {
		out = append(out, d.title+"\n"+d.html)
	}
	return out
}

// Find returns the titles and snippets of what a query finds.
func Find(p *Page, query string) (out []string) {
	for _, h := range p.index.find(query) {
		s := h.section.title
		for _, f := range h.snippet {
			s += f.text
		}
		out = append(out, s)
	}
	return out
}
