package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: the kernel's USER_HZ, 100 on every Linux
// that Go runs on.
const tick = 10 * time.Millisecond

// CPUTime is the user and system time that a process and all that descends from
// it have used, the ended ones included. Its grain is 10 ms.
func CPUTime(pid int) (time.Duration, error) {
	all, err := family(pid)
	if err != nil {
		return 0, err
	}
	total := time.Duration(0)
	for _, pid := range all {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if os.IsNotExist(err) {
			continue // ended just now; its time is its parent's
		}
		if err != nil {
			return 0, err
		}
		used, err := statTime(string(stat))
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		total += used
	}
	return total, nil
}

// family is a process and all that descends from it, children before their parents:
// the time of one that ends meanwhile is then not missed, but its parent's.
func family(pid int) (all []int, err error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	for _, task := range tasks { // a child belongs to the thread that made it
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			continue // the thread has ended; its children are listed under another
		}
		for child := range strings.FieldsSeq(string(children)) {
			id, err := strconv.Atoi(child)
			if err != nil {
				return nil, fmt.Errorf("children of %d: %w", pid, err)
			}
			below, err := family(id)
			if os.IsNotExist(err) {
				continue // ended just now
			}
			if err != nil {
				return nil, err
			}
			all = append(all, below...)
		}
	}
	return append(all, pid), nil
}

// statTime reads utime, stime, cutime and cstime: fields 14 to 17 of proc(5). The
// second field, the program's name in parentheses, may hold anything.
func statTime(stat string) (time.Duration, error) {
	after := strings.LastIndexByte(stat, ')')
	if after < 0 {
		return 0, fmt.Errorf("no name in %q", stat)
	}
	fields := strings.Fields(stat[after+1:])
	if len(fields) < 15 {
		return 0, fmt.Errorf("%d fields after the name", len(fields))
	}
	var ticks int64
	for _, field := range fields[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}
