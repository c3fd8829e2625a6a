package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"edge/config"
	"edge/ratelimit"
)

// TestLimitsThatPassTheCheckOpen: what the arithmetic of the limits refuses, the file's
// check refuses before it, with its place.
func TestLimitsThatPassTheCheckOpen(t *testing.T) {
	rates := []string{"1/s", "1/24h", "1000000000/s", "1000000000/24h", "7/86399s"}
	bursts := []string{"", "burst = 1", "burst = 36500", "burst = 36501", "burst = 1000000000"}
	passed, refused := 0, 0
	for _, algorithm := range []string{"token_bucket", "sliding_window", "fixed_window"} {
		for _, rate := range rates {
			for _, burst := range bursts {
				for _, plan := range []string{"", "plan \"p\" {\n  rate = %q\n  %s\n  when = req.host == \"h\"\n}"} {
					own := "1/s"
					if plan == "" {
						own = rate
					} else {
						plan = fmt.Sprintf(plan, rate, burst)
					}
					lines := fmt.Sprintf("algorithm = %q\nrate = %q\nblock_for = \"24h\"\n%s", algorithm, own, plan)
					if plan == "" {
						lines += burst
					}
					text := "rate_limit \"l\" {\n" + lines + "\n}\norigin \"app\" { url = \"http://127.0.0.1:3000\" }\nsite \"main\" {\n  hosts = [\"*\"]\n  rate_limits = [\"l\"]\n}\n"
					cfg, err := config.Parse("edge.hcl", []byte(text))
					if err == nil {
						passed++
						if _, err := New(cfg, nil); err != nil {
							t.Errorf("%s:\n%v", lines, err)
						}
						continue
					}
					refused++
					var findings *config.Error
					if !errors.As(err, &findings) || findings.Diagnostics[0].Line == 0 || !strings.Contains(err.Error(), "urst") {
						t.Errorf("%s:\n%v", lines, err)
					}
				}
			}
		}
	}
	if passed < 30 || refused < 30 {
		t.Errorf("%d passed and %d refused: that proves little", passed, refused)
	}
}

// TestLimitThatCannotOpen: what the file's check would miss, New refuses; edge check
// asks both.
func TestLimitThatCannotOpen(t *testing.T) {
	cfg, err := config.Parse("edge.hcl", []byte("rate_limit \"l\" { rate = \"1/s\" }\norigin \"app\" { url = \"http://127.0.0.1:3000\" }\nsite \"main\" {\n  hosts = [\"*\"]\n  rate_limits = [\"l\"]\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.RateLimits[0].Burst = -1
	if _, err := New(cfg, nil); err == nil || !strings.Contains(err.Error(), `limit "l"`) {
		t.Errorf("got %v", err)
	}
	p := policyOf(&cfg.RateLimits[0])
	if _, err := ratelimit.New(ratelimit.Options{Policies: []ratelimit.Policy{p}}); err == nil {
		t.Error("the limiter takes it")
	}
}
