module github.com/torg-network/torg/console/gen

go 1.26.5

require (
	github.com/a-h/templ v0.3.977
	github.com/evanw/esbuild v0.28.2
)

require (
	github.com/a-h/parse v0.0.0-20250122154542-74294addb73e // indirect
	golang.org/x/sys v0.34.0 // indirect
)
