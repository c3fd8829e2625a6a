package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// MasterName is what Sentinels call the master they watch.
const MasterName = "edge"

// Sentinels watch a master, and make a replica its successor when it is gone.
type Sentinels struct {
	URL   string // of the form that package conn takes
	Nodes []*Server
}

// StartSentinels starts three that watch the server and know its replicas. They
// believe it dead after half a second.
func (s *Server) StartSentinels(replicas ...*Server) *Sentinels {
	s.t.Helper()
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
	watch := &Sentinels{}
	var addrs []string
	for range 3 {
		// A Sentinel writes what it learns into its file, so each needs its own.
		file := filepath.Join(s.t.TempDir(), "sentinel.conf")
		conf := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 2\nsentinel down-after-milliseconds %[1]s 500\n"+
			"sentinel failover-timeout %[1]s 5000\n", MasterName, host, port)
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			s.t.Fatalf("redistest: %v", err)
		}
		node := start(s.t, &Server{dir: filepath.Dir(file), file: []string{file, "--sentinel"}})
		watch.Nodes = append(watch.Nodes, node)
		addrs = append(addrs, node.Addr)
	}
	watch.URL = "redis://" + strings.Join(addrs, ",") + "?sentinel=" + MasterName
	for _, node := range watch.Nodes {
		await(s.t, "the Sentinels to know each other", func() bool {
			line := node.Info("sentinel", "master0")
			return strings.Contains(line, "status=ok") && strings.HasSuffix(line, ",slaves="+strconv.Itoa(len(replicas))+",sentinels=3")
		})
	}
	return watch
}

// Master returns the address of the master as the Sentinels see it.
func (w *Sentinels) Master() string {
	w.Nodes[0].t.Helper()
	reply, ok := w.Nodes[0].Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName).([]any)
	if !ok || len(reply) != 2 {
		w.Nodes[0].t.Fatalf("redistest: the Sentinels say %v", reply)
	}
	return net.JoinHostPort(fmt.Sprint(reply[0]), fmt.Sprint(reply[1]))
}

// AwaitMaster waits until all Sentinels agree that the server is the master, and it
// is one.
func (w *Sentinels) AwaitMaster(s *Server) {
	s.t.Helper()
	await(s.t, "the Sentinels to agree on "+s.Addr, func() bool {
		for _, node := range w.Nodes {
			if !strings.Contains(node.Info("sentinel", "master0"), "status=ok,address="+s.Addr+",") {
				return false
			}
		}
		return s.Info("replication", "role") == "master"
	})
}

// Cluster is a Redis Cluster of three masters.
type Cluster struct {
	URL   string // of the form that package conn takes
	Nodes []*Server
}

// slots is how many a cluster has.
const slots = 16384

// StartCluster starts the nodes and waits until all of them say that the cluster is
// whole. Each has a third of the slots, and there are no replicas.
func StartCluster(t testing.TB, args ...string) *Cluster {
	t.Helper()
	const nodes = 3
	c := &Cluster{}
	var addrs []string
	for n := range nodes {
		bus := strconv.Itoa(freePort(t))
		node := Start(t, append([]string{"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", "2000", "--cluster-port", bus}, args...)...)
		node.Do("CLUSTER", "ADDSLOTSRANGE", n*slots/nodes, (n+1)*slots/nodes-1)
		node.Do("CLUSTER", "SET-CONFIG-EPOCH", n+1)
		if n > 0 {
			host, port, err := net.SplitHostPort(node.Addr)
			if err != nil {
				t.Fatalf("redistest: %v", err)
			}
			c.Nodes[0].Do("CLUSTER", "MEET", host, port, bus)
		}
		c.Nodes = append(c.Nodes, node)
		addrs = append(addrs, node.Addr)
	}
	c.URL = "redis://" + strings.Join(addrs, ",") + "?cluster=true"
	for _, node := range c.Nodes {
		await(t, "the cluster to be whole", func() bool {
			info := fmt.Sprint(node.Do("CLUSTER", "INFO"))
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:"+strconv.Itoa(slots)) &&
				strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(nodes))
		})
	}
	return c
}
