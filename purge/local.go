package purge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Local is the Recorder of a node alone: what is applied here is complete. It must
// be made by NewLocal, and may be used by any number of goroutines.
type Local struct {
	ledger *Ledger
	node   string
	run    string // tells the purges of this process from those of an earlier one

	mu     sync.Mutex // guards what follows
	recent []Receipt  // the latest, the oldest first
}

// maxRecent is how many receipts a node alone can still show.
const maxRecent = 1024

// NewLocal returns a Recorder that applies purges to the ledger, under the name of
// the node.
func NewLocal(ledger *Ledger, node string) *Local {
	var run [4]byte
	rand.Read(run[:]) // never fails
	return &Local{ledger: ledger, node: node, run: hex.EncodeToString(run[:])}
}

// Record implements Recorder. It never fails.
func (l *Local) Record(_ context.Context, records []Record) (Receipt, error) {
	if len(records) == 0 {
		panic("purge: recording nothing")
	}
	began := time.Now()
	var sequence uint64
	for _, r := range records {
		sequence = l.ledger.Append(r)
	}
	receipt := Receipt{
		ID:       l.run + "-" + strconv.FormatUint(sequence, 10),
		Soft:     records[0].Soft,
		Complete: true,
		Nodes:    []NodeProgress{{ID: l.node, Applied: true, Latency: float64(time.Since(began)) / float64(time.Millisecond)}},
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.recent) == maxRecent {
		l.recent = slices.Delete(l.recent, 0, 1)
	}
	l.recent = append(l.recent, receipt)
	return receipt, nil
}

// Follow implements Recorder. The latest 1,024 purges since the start are known.
func (l *Local) Follow(_ context.Context, id string) (Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, receipt := range l.recent {
		if receipt.ID == id {
			return receipt, nil
		}
	}
	return Receipt{}, ErrUnknownPurge
}
