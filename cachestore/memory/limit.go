package memory

// SoftLimit returns the limit to give to debug.SetMemoryLimit for a process whose
// main use of memory is a Store of this Options.Size, in bytes. other is what else
// the process may hold at a time, such as bodies being fetched; zero is little.
//
// Without a limit the garbage collector lets the heap grow to twice what is live. A
// quarter over the sum bounds that, and leaves the collector enough garbage to
// collect at a time: the tighter the limit, the more of the processor goes to
// collections. The limit is soft, and counts neither the program's text nor pages
// that the kernel has not taken back yet: some 20 MiB come on top.
func SoftLimit(size, other int64) int64 { return (size+other)/4*5 + base }

// base is what the process needs beside: stacks, connections, the runtime itself.
const base = 24 << 20
