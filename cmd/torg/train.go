package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/exact/quantise"
	"github.com/torg-network/torg/train"
	"github.com/torg-network/torg/train/corpus"
)

func trainCommand() *cobra.Command {
	cfg := train.Bundled
	var corpusFile, out, name, checkpoint string
	var compare bool
	c := &cobra.Command{
		Use: "train", Short: "Train a small model, reproducibly",
		Long: "Train a small byte-level model and quantise it into an exact program.\n\n" +
			"The same corpus, seed and steps give the same file on every machine, at any number of cores:\n" +
			"without flags this makes the bundled model again, byte for byte. It can be interrupted; with\n" +
			"--checkpoint it goes on from where it was.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg.WarmUp = min(cfg.WarmUp, cfg.Steps/10)
			text, heldOut := corpus.Train(), corpus.HeldOut()
			if corpusFile != "" {
				b, err := os.ReadFile(corpusFile)
				if err != nil {
					return fmt.Errorf("read the corpus: %w", err)
				}
				cut := len(b) - len(b)/20
				text, heldOut = b[:cut], [][]byte{b[cut:]}
			}
			ck, err := trainOn(c.Context(), cfg, text, checkpoint)
			if err != nil {
				return err
			}
			progress("quantising")
			file, err := quantise.GPT(ck.Params, name, text[:min(len(text), 50_000)])
			if err != nil {
				return fmt.Errorf("quantise: %w", err)
			}
			m, err := exact.Load(file)
			if err != nil {
				return fmt.Errorf("load what was made: %w", err)
			}
			if err := os.WriteFile(out, file, 0o644); err != nil {
				return fmt.Errorf("write the model: %w", err)
			}
			params, digest := ck.Params.Digest(), m.Digest()
			made := struct {
				File    string           `json:"file"`
				Params  string           `json:"params_sha256"`
				Model   string           `json:"model_sha256"`
				Bundled bool             `json:"is_bundled_model"`
				Report  *quantise.Report `json:"held_out,omitempty"`
			}{out, hex.EncodeToString(params[:]), hex.EncodeToString(digest[:]), digest == nano.Model().Digest(), nil}
			if compare {
				progress("measuring the loss on held-out text")
				r, err := quantise.Compare(m, ck.Params, heldOut, 200)
				if err != nil {
					return fmt.Errorf("measure: %w", err)
				}
				made.Report = &r
			}
			return show(c.OutOrStdout(), made, func(w io.Writer) {
				fmt.Fprintf(w, "%s  model %s\n", made.File, made.Model)
				fmt.Fprintf(w, "parameters %s\n", made.Params)
				if made.Bundled {
					fmt.Fprintln(w, "this is the bundled model, byte for byte")
				}
				if r := made.Report; r != nil {
					fmt.Fprintf(w, "held-out loss %.4f nats per byte (float %.4f), same likeliest byte %.2f %%\n", r.Exact, r.Float, 100*r.Agreement)
				}
			})
		},
	}
	f := c.Flags()
	f.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of everything random in the run")
	f.IntVar(&cfg.Steps, "steps", cfg.Steps, "optimiser steps")
	f.StringVar(&corpusFile, "corpus", "", "a text file (default: the bundled novels); its last twentieth is held out")
	f.StringVar(&out, "out", "model.exact", "where to write the model")
	f.StringVar(&name, "name", nano.Name, "the model's name")
	f.StringVar(&checkpoint, "checkpoint", "", "keep the state of the run in this file, and go on from it")
	f.BoolVar(&compare, "measure", true, "measure loss and agreement on held-out text")
	return c
}

// trainOn runs or resumes a training run, saying how it goes and saving the
// checkpoint when it ends, finished or not.
func trainOn(ctx context.Context, cfg train.Config, text []byte, file string) (*train.Checkpoint, error) {
	start, last := time.Now(), time.Now()
	say := func(step int, loss float64) {
		if now := time.Now(); now.Sub(last) > 5*time.Second || step == cfg.Steps {
			last = now
			progress("step %d of %d, loss %.3f nats per byte, %s", step, cfg.Steps, loss, time.Since(start).Round(time.Second))
		}
	}
	ck, err := train.Start(cfg, text)
	if err != nil {
		return nil, &codedError{exitUsage, err}
	}
	if file != "" {
		f, err := os.Open(file)
		if err == nil {
			ck, err = train.ReadCheckpoint(f)
			f.Close()
			if err != nil {
				return nil, fmt.Errorf("read checkpoint %s: %w", file, err)
			}
			if ck.Config != cfg {
				return nil, usageError("checkpoint %s is of another run (seed %d, %d steps); delete it or repeat that run's flags", file, ck.Config.Seed, ck.Config.Steps)
			}
			progress("going on from step %d", ck.Step)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
	}
	err = ck.Resume(ctx, text, say)
	if file != "" {
		if werr := writeCheckpoint(ck, file); werr != nil {
			return nil, errors.Join(err, werr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("train: stopped at step %d: %w", ck.Step, err)
	}
	return ck, nil
}

func writeCheckpoint(ck *train.Checkpoint, file string) error {
	f, err := os.Create(file + ".new")
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if err := errors.Join(ck.Write(f), f.Close()); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return os.Rename(file+".new", file)
}
