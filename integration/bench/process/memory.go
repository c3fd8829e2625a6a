package process

import (
	"fmt"
	"os"
)

// Memory is the resident memory of a process and all that descends from it. Pages
// that several of them share count for each.
func Memory(pid int) (bytes int64, err error) {
	all, err := family(pid)
	if err != nil {
		return 0, err
	}
	for _, pid := range all {
		statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if os.IsNotExist(err) {
			continue // ended just now
		}
		if err != nil {
			return 0, err
		}
		var size, resident int64
		if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
			return 0, fmt.Errorf("/proc/%d/statm: %w", pid, err)
		}
		bytes += resident * int64(os.Getpagesize())
	}
	return bytes, nil
}
