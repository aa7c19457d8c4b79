package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/square"
)

// adminClient talks to the admin endpoints of the running square.
type adminClient struct{ url, token string }

func openAdmin(cfg config) (adminClient, error) {
	run, err := findRunning(cfg)
	return adminClient{run.AdminURL, run.Token}, err
}

// asking runs a command that asks the running square.
func asking(run func(*cobra.Command, adminClient, []string) error) func(*cobra.Command, []string) error {
	return configured(func(c *cobra.Command, cfg config, args []string) error {
		api, err := openAdmin(cfg)
		if err != nil {
			return err
		}
		return run(c, api, args)
	})
}

// call sends body (nil: nothing) and reads the answer into out (nil: ignored).
func (a adminClient) call(ctx context.Context, method, path string, body, out any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+"/admin/v1/"+path, r)
	if err != nil {
		return fmt.Errorf("ask the running square: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the running square: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("read the square's answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		var e struct {
			Error struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		msg := strings.TrimSpace(string(b))
		if json.Unmarshal(b, &e) == nil && e.Error.Message != "" {
			msg = e.Error.Message
		}
		err := fmt.Errorf("%s (HTTP %d)", msg, resp.StatusCode)
		switch resp.StatusCode {
		case http.StatusNotFound:
			return &codedError{exitNotFound, err}
		case http.StatusBadRequest:
			return &codedError{exitUsage, err}
		}
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read the square's answer: %w", err)
	}
	return nil
}

// matchID finds the one id that a prefix names.
func matchID(what, prefix string, ids []square.Hash) (square.Hash, error) {
	prefix = strings.ToLower(strings.TrimPrefix(prefix, "0x"))
	if h, err := square.ParseHash(prefix); err == nil {
		return h, nil
	}
	var found []square.Hash
	for _, id := range ids {
		if prefix != "" && strings.HasPrefix(id.String(), prefix) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return square.Hash{}, &codedError{exitNotFound, fmt.Errorf("no %s begins with %q", what, prefix)}
	}
	return square.Hash{}, usageError("%d %ss begin with %q; give more digits", len(found), what, prefix)
}
