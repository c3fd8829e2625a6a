package rfc9111

import "github.com/dunglas/httpsfv"

// Groups returns the members of Cache-Groups or Cache-Group-Invalidation, each a
// List of Strings with parameters to be ignored (RFC 9875 sections 2 and 3). A field
// that is not such a list is ignored whole (RFC 9651 section 4.2): nil.
func Groups(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	groups := make([]string, 0, len(list))
	for _, member := range list {
		item, isItem := member.(httpsfv.Item)
		group, isString := item.Value.(string)
		if !isItem || !isString {
			return nil
		}
		groups = append(groups, group)
	}
	return groups
}
