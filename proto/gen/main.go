// Command gen compiles the protobuf sources under proto/ and writes the Go code
// of the ledger's messages, queries and REST gateway. It is pure Go: no protoc.
//
//	go run ./proto/gen
//
// The sources are compiled in process, the two plugins are the go.mod's own
// tools, and imports are read from the module cache at the versions go.mod pins.
// Running it twice changes nothing.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"
)

const module = "github.com/torg-network/torg"

// roots are where imports come from: a module and the folder inside it.
var roots = [][2]string{
	{"github.com/cosmos/cosmos-sdk", "proto"},
	{"github.com/cosmos/cosmos-proto", "proto"},
	{"github.com/cosmos/gogoproto", ""},
	{"github.com/grpc-ecosystem/grpc-gateway", "third_party/googleapis"},
}

var plugins = [][2]string{
	{"github.com/cosmos/gogoproto/protoc-gen-gocosmos", "plugins=grpc,Mgoogle/protobuf/any.proto=github.com/cosmos/gogoproto/types/any"},
	{"github.com/grpc-ecosystem/grpc-gateway/protoc-gen-grpc-gateway", "logtostderr=true,allow_colon_final_segments=true"},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("proto/gen: ")
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	root, err := output("go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return err
	}
	imports := []string{filepath.Join(root, "proto")}
	for _, r := range roots {
		dir, err := output("go", "list", "-m", "-f", "{{.Dir}}", r[0])
		if err != nil {
			return err
		}
		imports = append(imports, filepath.Join(dir, r[1]))
	}
	folders, err := sources(imports[0])
	if err != nil {
		return err
	}
	var names []string
	for dir := range folders {
		names = append(names, dir)
	}
	sort.Strings(names)
	for _, dir := range names {
		req, err := request(imports, folders[dir])
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		for _, p := range plugins {
			if err := generate(root, p[0], p[1], req); err != nil {
				return fmt.Errorf("%s: %s: %w", dir, p[0], err)
			}
		}
	}
	return nil
}

// sources lists the .proto files by folder, relative to dir. A folder is one
// protobuf package, and the plugins want one package a call.
func sources(dir string) (map[string][]string, error) {
	out := map[string][]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".proto" {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		out[filepath.Dir(rel)] = append(out[filepath.Dir(rel)], rel)
		return nil
	})
	return out, err
}

// request is what protoc would send a plugin: every file after its imports.
func request(imports, files []string) (*pluginpb.CodeGeneratorRequest, error) {
	c := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: imports}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	linked, err := c.Compile(context.Background(), files...)
	if err != nil {
		return nil, err
	}
	req := &pluginpb.CodeGeneratorRequest{
		FileToGenerate:  files,
		CompilerVersion: &pluginpb.Version{Major: proto.Int32(3), Minor: proto.Int32(21), Patch: proto.Int32(12)},
	}
	seen := map[string]bool{}
	var add func(f protoreflect.FileDescriptor) error
	add = func(f protoreflect.FileDescriptor) error {
		if seen[f.Path()] {
			return nil
		}
		seen[f.Path()] = true
		deps := f.Imports()
		for i := range deps.Len() {
			if err := add(deps.Get(i).FileDescriptor); err != nil {
				return err
			}
		}
		req.ProtoFile = append(req.ProtoFile, protoutil.ProtoFromFileDescriptor(f))
		return nil
	}
	for _, f := range linked {
		if err := add(f); err != nil {
			return nil, err
		}
	}
	return req, nil
}

func generate(root, tool, parameter string, req *pluginpb.CodeGeneratorRequest) error {
	req.Parameter = proto.String(parameter)
	in, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "tool", tool)
	cmd.Dir, cmd.Stdin, cmd.Stderr = root, bytes.NewReader(in), os.Stderr
	raw, err := cmd.Output()
	if err != nil {
		return err
	}
	var resp pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(raw, &resp); err != nil {
		return err
	}
	if resp.Error != nil {
		return fmt.Errorf("%s", *resp.Error)
	}
	for _, f := range resp.File {
		rel, ok := strings.CutPrefix(f.GetName(), module+"/")
		if !ok {
			return fmt.Errorf("%s is outside of %s: fix its go_package", f.GetName(), module)
		}
		path := filepath.Join(root, filepath.FromSlash(rel))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
