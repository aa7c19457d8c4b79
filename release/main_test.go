package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"slices"
	"strings"
	"testing"
)

// TestPack: an archive holds the command, executable, the licence and the README,
// and packing again gives the same bytes.
func TestPack(t *testing.T) {
	t.Chdir("..")
	binary := bytes.Repeat([]byte("torg"), 1000)
	for _, target := range targets {
		name, archive, err := pack("v1", target, binary)
		if err != nil {
			t.Fatal(err)
		}
		if _, again, err := pack("v1", target, binary); err != nil || !bytes.Equal(again, archive) {
			t.Errorf("%s: packed again it is different, %v", target, err)
		}
		folder := "torg-v1-" + strings.ReplaceAll(target, "/", "-") + "/"
		want := []string{folder + "torg", folder + "LICENSE", folder + "README.md"}
		var names []string
		var first []byte
		var mode int64
		if strings.HasPrefix(target, "windows/") {
			want[0] += ".exe"
			z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range z.File {
				names = append(names, f.Name)
				if !f.Modified.Equal(fixed) {
					t.Errorf("%s: %s is of %v", name, f.Name, f.Modified)
				}
			}
			mode = int64(z.File[0].Mode())
			r, err := z.File[0].Open()
			if err != nil {
				t.Fatal(err)
			}
			first, _ = io.ReadAll(r)
		} else {
			g, err := gzip.NewReader(bytes.NewReader(archive))
			if err != nil {
				t.Fatal(err)
			}
			r := tar.NewReader(g)
			for {
				h, err := r.Next()
				if err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if len(names) == 0 {
					mode = h.Mode
					first, _ = io.ReadAll(r)
				}
				if names = append(names, h.Name); !h.ModTime.Equal(fixed) {
					t.Errorf("%s: %s is of %v", name, h.Name, h.ModTime)
				}
			}
		}
		if !slices.Equal(names, want) || !bytes.Equal(first, binary) || mode != 0o755 {
			t.Errorf("%s holds %v, the first of %d bytes and mode %o", name, names, len(first), mode)
		}
	}
}

// TestRefused: nothing is built for what is not released.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ version, target string }{{"v1", "plan9/amd64"}, {"v1 -X main.x=y", "linux/amd64"}, {"../v1", "linux/amd64"}, {"", "linux/amd64"}} {
		if err := release(t.Context(), c.version, t.TempDir(), []string{c.target}); err == nil {
			t.Errorf("%q for %s: built", c.version, c.target)
		}
	}
}
