package github

// PermissionLevels is the table for tests.
func PermissionLevels() map[string]string {
	all := map[string]string{}
	for _, known := range permissions {
		all[known.name] = known.levels
	}
	return all
}
