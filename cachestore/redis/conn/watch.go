package conn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxSkew is by how much clocks may differ without a word.
const maxSkew = time.Second

// examineEvery is how often Redis is looked at anew: clocks drift, and settings are
// changed under a server that runs.
const examineEvery = 10 * time.Minute

// watch does the work that no request waits for: to find out that a Redis which was
// down is back, and to look at one that has answered for the first time.
func (c *Conn) watch() {
	again := time.NewTicker(examineEvery)
	defer again.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
		case <-again.C:
		}
		if !c.breaker.now().Up {
			c.awaitReturn()
		}
		if c.breaker.now().Contacted {
			c.examine()
		}
	}
}

// awaitReturn probes until Redis answers, and lets calls through again.
func (c *Conn) awaitReturn() {
	down := c.breaker.now()
	c.options.Log.Warn("Redis is unavailable", "fault", string(down.Fault), "error", down.Err)
	c.probe()
	if c.ctx.Err() != nil {
		return
	}
	now := c.options.Now()
	since := c.breaker.reset(now)
	c.options.Log.Info("Redis is available again", "down_for", now.Sub(since).Round(time.Millisecond).String())
}

// Probes come after growing pauses, so that many nodes do not storm a Redis that
// has just come back.
const firstPause, longestPause = 50 * time.Millisecond, time.Second

// probe asks until Redis answers or the Conn is closed.
func (c *Conn) probe() {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		ctx, cancel := context.WithTimeout(c.ctx, c.options.DialTimeout+c.options.Timeout)
		err := c.ping(ctx)
		cancel()
		if faultOf(err) == "" {
			return
		}
		c.breaker.fail(err)
	}
}

// ping asks something that only a Redis in working order answers. Of a Cluster any
// node is asked about all: it would answer a PING for itself.
func (c *Conn) ping(ctx context.Context) error {
	if c.cluster == nil {
		return c.single.Ping(ctx).Err()
	}
	info, err := c.cluster.ClusterInfo(ctx).Result()
	if err == nil && strings.Contains(info, "cluster_state:fail") {
		return errClusterDown
	}
	return err
}

var errClusterDown = errors.New("conn: the cluster says that it is down")

// examine looks at what is wrong with a Redis though it answers.
func (c *Conn) examine() {
	ctx, cancel := context.WithTimeout(c.ctx, longest)
	defer cancel()
	var mu sync.Mutex // guards what follows: a Cluster's masters are asked side by side
	var skew time.Duration
	var evicts string
	err := c.eachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		ahead, err1 := c.skewOf(ctx, master)
		policy, err2 := policyOf(ctx, master)
		mu.Lock()
		defer mu.Unlock()
		if ahead.Abs() > skew.Abs() {
			skew = ahead
		}
		if strings.HasPrefix(policy, "allkeys-") {
			evicts = policy
		}
		return errors.Join(err1, err2)
	})
	if err != nil {
		c.options.Log.Debug("could not look at all of Redis", "error", err)
	}
	skewed, evicting := c.breaker.examined(skew, evicts)
	if skewed {
		c.options.Log.Warn("the clock of Redis and that of this node differ", "ahead", skew)
	}
	if evicting {
		c.options.Log.Warn("Redis may evict the log of purges: its maxmemory-policy should be volatile-* or noeviction", "maxmemory-policy", evicts)
	}
}

func (c *Conn) eachMaster(ctx context.Context, fn func(context.Context, *redis.Client) error) error {
	if c.cluster != nil {
		return c.cluster.ForEachMaster(ctx, fn)
	}
	return fn(ctx, c.single)
}

// skewOf returns by how much a server's clock is ahead. What the call itself took is
// taken off, since nobody knows when within it the server looked.
func (c *Conn) skewOf(ctx context.Context, master *redis.Client) (time.Duration, error) {
	sent := c.options.Now()
	there, err := master.Time(ctx).Result()
	received := c.options.Now()
	switch {
	case err != nil:
		return 0, fmt.Errorf("asking for the time: %w", err)
	case there.Before(sent):
		return there.Sub(sent), nil
	case there.After(received):
		return there.Sub(received), nil
	default:
		return 0, nil
	}
}

// policyOf returns a server's maxmemory-policy. Hosted servers often refuse CONFIG.
func policyOf(ctx context.Context, master *redis.Client) (string, error) {
	const name = "maxmemory-policy"
	settings, err := master.ConfigGet(ctx, name).Result()
	if err == nil && settings[name] != "" {
		return settings[name], nil
	}
	info, err := master.Info(ctx, "memory").Result()
	if err != nil {
		return "", fmt.Errorf("asking for the %s: %w", name, err)
	}
	for line := range strings.SplitSeq(info, "\n") {
		if policy, ok := strings.CutPrefix(line, "maxmemory_policy:"); ok {
			return strings.TrimSpace(policy), nil
		}
	}
	return "", fmt.Errorf("asking for the %s: the server does not say", name)
}
