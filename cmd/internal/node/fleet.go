package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"edge/cachestore/memory"
	"edge/cachestore/redis"
	"edge/cachestore/redis/conn"
	"edge/cachestore/redis/stream"
	"edge/cachestore/tiered"
	"edge/config"
	"edge/purge"
)

// fleet is what a node has in common with others: a connection to Redis, the log of
// purges, and the shared tier.
type fleet struct {
	config *config.Redis
	secure *tls.Config // nil is as the system does
	conn   *conn.Conn
	log    *purge.Log
	shared *redis.Store
	tiers  *tiered.Store
}

// headStart is how long a node that starts waits for the log of purges, and with it
// for the shared tier.
const headStart = time.Second

// newFleet prepares what the configuration asks for, and starts nothing.
func newFleet(cfg *config.Redis, name string, ledger *purge.Ledger, log *slog.Logger) (*fleet, error) {
	if err := conn.CheckURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("redis: url: %w", err)
	}
	secure, err := redisTLS(cfg)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	f := &fleet{config: cfg, secure: secure, log: &purge.Log{Ledger: ledger, Name: name, Log: log, Fence: cfg.Fence}}
	if cfg.Fence == 0 {
		f.log.Fence = -1 // "off"
	}
	return f, nil
}

// open begins to follow the log, and puts memory before the shared tier. That Redis
// does not answer is no error.
func (f *fleet) open(store *memory.Store) error {
	cfg := f.config
	var err error
	f.conn, err = conn.Open(conn.Options{
		URL: cfg.URL, TLS: f.secure, Username: cfg.Username, Password: cfg.Password, Timeout: cfg.Timeout, Log: f.log.Log,
	})
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	f.log.Fleet = stream.New(stream.Options{Client: f.conn, Prefix: cfg.Prefix})
	f.shared = redis.New(redis.Options{
		Client: f.conn, Generations: f.log, Prefix: cfg.Prefix, MaxObject: cfg.MaxObject, GetTimeout: cfg.Timeout,
	})
	f.log.Open()
	// A node that begins at once asks the origin for what the others have fetched.
	soon, cancel := context.WithTimeout(context.Background(), headStart)
	defer cancel()
	until(soon, f.log.Ready)
	f.tiers = tiered.New(tiered.Options{
		Memory: store, Shared: f.shared, Ready: f.log.Ready, Patience: cfg.Patience, Queue: cfg.Queue, QueueBytes: cfg.QueueSize,
	})
	return nil
}

// close writes what waits for the shared tier until ctx ends, tells the others that
// this node serves nothing more, and ends the connection.
func (f *fleet) close(ctx context.Context) error {
	err := f.tiers.Close(ctx)
	f.log.Close()
	return errors.Join(err, f.conn.Close())
}

// redisTLS returns how to speak TLS to Redis; nil is as the system does.
func redisTLS(cfg *config.Redis) (*tls.Config, error) {
	if cfg.CAFile == "" && cfg.CertFile == "" {
		return nil, nil
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("authorities: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("authorities: %s holds no certificate in PEM", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		secure.Certificates = []tls.Certificate{certificate}
	}
	return secure, nil
}

// nodes returns how many nodes the fleet has, this one included, as far as is known.
func (f *fleet) nodes() int { return f.log.Stats().NodesNow + 1 }

// FleetStats are what a node knows of its fleet.
type FleetStats struct {
	RedisUp    bool           `json:"redis_up"`
	RedisFault string         `json:"redis_fault,omitempty"`  // class of the last failure, also when it is past
	Skew       float64        `json:"clock_skew_seconds"`     // by how much the clock of Redis is ahead
	Evicts     string         `json:"redis_evicts,omitempty"` // an eviction policy that can drop the log of purges
	Commands   uint64         `json:"redis_commands"`         // sent so far
	Log        purge.LogStats `json:"log"`
	Shared     redis.Stats    `json:"shared"`
	Tiers      tiered.Stats   `json:"tiers"`
}

func (f *fleet) stats() *FleetStats {
	state := f.conn.State()
	return &FleetStats{
		RedisUp:    state.Up,
		RedisFault: string(state.Fault),
		Skew:       state.Skew.Seconds(),
		Evicts:     state.Evicts,
		Commands:   f.conn.Commands(),
		Log:        f.log.Stats(),
		Shared:     f.shared.Stats(),
		Tiers:      f.tiers.Stats(),
	}
}

// degraded says what a fleet lacks just now, or "".
func (f *fleet) degraded() string {
	switch {
	case !f.conn.State().Up:
		return "Redis cannot be reached: memory alone, and purges reach this node only"
	case !f.log.Trusted():
		return "the log of purges was not read for too long: what is stored is revalidated before use"
	case !f.log.Ready():
		return "the log of purges is being caught up"
	}
	return ""
}
