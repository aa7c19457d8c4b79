// Command release builds torg for the systems it is released for and packs each
// build in an archive: go run ./release [-version v1.2.3] [-to dist] [system/arch ...].
//
// The same source and the same version of Go give the same bytes, wherever and
// whenever they are built: no paths, times, users or build ids are in them.
// SHA256SUMS has the archives' checksums, for sha256sum -c. Archives are tar.gz
// (POSIX ustar, RFC 1952), for Windows zip.
package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// targets are what is released, as system/arch.
var targets = []string{"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"}

// maxBinary bounds a binary, in bytes. What is larger has something in it that does
// not belong there: go tool nm -size -sort size says what.
const maxBinary = 120_000_000

// fixed is the time of everything in an archive.
var fixed = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	version := flag.String("version", "dev", "what torg version says, and the archives' names")
	to := flag.String("to", "dist", "folder to write to")
	flag.Parse()
	asked := flag.Args()
	if len(asked) == 0 {
		asked = targets
	}
	if err := release(ctx, *version, *to, asked); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func release(ctx context.Context, version, to string, asked []string) error {
	if version == "" || strings.Trim(version, "abcdefghijklmnopqrstuvwxyz0123456789.-+") != "" {
		return fmt.Errorf("version %q: want a-z, 0-9, dots, dashes, plus", version)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	var sums []string
	for _, target := range asked {
		if !slices.Contains(targets, target) {
			return fmt.Errorf("%q is not released: there is %s", target, strings.Join(targets, ", "))
		}
		binary, err := build(ctx, version, target)
		if err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
		name, archive, err := pack(version, target, binary)
		if err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
		if err := os.WriteFile(filepath.Join(to, name), archive, 0o644); err != nil {
			return err
		}
		sum := fmt.Sprintf("%x  %s", sha256.Sum256(archive), name)
		fmt.Printf("%s  binary %.1f MB, archive %.1f MB\n", sum, float64(len(binary))/1e6, float64(len(archive))/1e6)
		sums = append(sums, sum+"\n")
	}
	slices.SortFunc(sums, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	return os.WriteFile(filepath.Join(to, "SHA256SUMS"), []byte(strings.Join(sums, "")), 0o644)
}

// build returns the stripped binary for a target.
func build(ctx context.Context, version, target string) (binary []byte, err error) {
	dir, err := os.MkdirTemp("", "torg-release-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := filepath.Join(dir, "torg")
	system, arch, _ := strings.Cut(target, "/")
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid= -X main.version="+version, "-o", out, "./cmd/torg")
	// Settings of the person who builds would be in the bytes.
	c.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off")
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("go build: %w", err)
	}
	if binary, err = os.ReadFile(out); err != nil {
		return nil, err
	}
	if len(binary) > maxBinary {
		return nil, fmt.Errorf("a binary of %d bytes, at most %d", len(binary), maxBinary)
	}
	return binary, nil
}

// file is one in an archive.
type file struct {
	name string
	mode int64
	data []byte
}

// pack makes the archive of a build: the binary, the licence and the README in a
// folder named as the archive is.
func pack(version, target string, binary []byte) (name string, archive []byte, err error) {
	folder := "torg-" + version + "-" + strings.ReplaceAll(target, "/", "-")
	command := "torg"
	if strings.HasPrefix(target, "windows/") {
		command += ".exe"
	}
	files := []file{{folder + "/" + command, 0o755, binary}}
	for _, text := range []string{"LICENSE", "README.md"} {
		b, err := os.ReadFile(text)
		if err != nil {
			return "", nil, fmt.Errorf("run it in the repository's root: %w", err)
		}
		files = append(files, file{folder + "/" + text, 0o644, b})
	}
	var b bytes.Buffer
	if strings.HasPrefix(target, "windows/") {
		err = zipped(&b, files)
		return folder + ".zip", b.Bytes(), err
	}
	err = tarred(&b, files)
	return folder + ".tar.gz", b.Bytes(), err
}

func tarred(w io.Writer, files []file) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		if err := t.WriteHeader(&tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: fixed}); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func zipped(w io.Writer, files []file) error {
	z := zip.NewWriter(w)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: fixed}
		h.SetMode(os.FileMode(f.mode))
		to, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := to.Write(f.data); err != nil {
			return err
		}
	}
	return z.Close()
}
