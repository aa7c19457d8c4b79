package clients_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestConsole uses the console of a running torg up in Debian's Chromium, as
// people do: the journeys and the pages of the folder console. It needs the
// environment that console/browser.mjs names; .ci/run sets it. Pictures of every
// page are left in out/console.
func TestConsole(t *testing.T) {
	if os.Getenv("TORG_LINK") == "" {
		t.Skip("no torg up to look at (TORG_LINK): .ci/run starts one")
	}
	chromium := os.Getenv("CHROMIUM")
	if chromium == "" {
		var err error
		if chromium, err = exec.LookPath("chromium"); err != nil {
			lack(t, "chromium is not installed")
		}
	}
	bin, err := exec.LookPath("node")
	if err != nil {
		lack(t, "node is not installed")
	}
	for _, at := range []string{"node_modules/viem", "console/node_modules/playwright-core", "console/node_modules/axe-core"} {
		if _, err := os.Stat(at); err != nil {
			lack(t, "the npm packages are not installed (npm --prefix test/clients ci; npm --prefix test/clients/console ci)")
		}
	}
	shots, err := filepath.Abs("out/console")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "--test", "--test-concurrency=1", "--test-reporter=tap", "journeys.test.mjs", "pages.test.mjs")
	cmd.Dir = "console"
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "CHROMIUM="+chromium, "TORG_SHOTS="+shots)
	cmd.WaitDelay = 5 * time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if pass, skip := counts(t, out); pass < 30 || skip > 0 {
		t.Errorf("%d passed and %d were skipped: not all was looked at", pass, skip)
	}
}
