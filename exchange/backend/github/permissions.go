package github

import (
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// permission is a name that a GitHub App's permission can have, and its levels
// in rising order.
type permission struct{ name, levels string }

const (
	readWrite      = "read write"
	readWriteAdmin = "read write admin"
	readOnly       = "read"
	writeOnly      = "write"
)

// permissions is GitHub's schema of POST /app/installations/{id}/access_tokens
// of 2026-09-09, and four names that exist although it lacks them
// (actions_variables, codespaces_secrets, organization_actions_variables,
// repository_advisories). Names that GitHub dropped are not here.
var permissions = []permission{
	{"actions", readWrite},
	{"actions_variables", readWrite},
	{"administration", readWrite},
	{"artifact_metadata", readWrite},
	{"attestations", readWrite},
	{"checks", readWrite},
	{"code_quality", readWrite},
	{"codespaces", readWrite},
	{"codespaces_secrets", readWrite},
	{"contents", readWrite},
	{"custom_properties_for_organizations", readWrite},
	{"dependabot_secrets", readWrite},
	{"deployments", readWrite},
	{"discussions", readWrite},
	{"email_addresses", readWrite},
	{"enterprise_custom_properties_for_organizations", readWriteAdmin},
	{"environments", readWrite},
	{"followers", readWrite},
	{"git_ssh_keys", readWrite},
	{"gpg_keys", readWrite},
	{"interaction_limits", readWrite},
	{"issues", readWrite},
	{"members", readWrite},
	{"merge_queues", readWrite},
	{"metadata", readWrite},
	{"organization_actions_variables", readWrite},
	{"organization_administration", readWrite},
	{"organization_announcement_banners", readWrite},
	{"organization_copilot_agent_settings", readWrite},
	{"organization_copilot_seat_management", readWrite},
	{"organization_custom_org_roles", readWrite},
	{"organization_custom_properties", readWriteAdmin},
	{"organization_custom_roles", readWrite},
	{"organization_events", readOnly},
	{"organization_hooks", readWrite},
	{"organization_packages", readWrite},
	{"organization_personal_access_token_requests", readWrite},
	{"organization_personal_access_tokens", readWrite},
	{"organization_plan", readOnly},
	{"organization_projects", readWriteAdmin},
	{"organization_secrets", readWrite},
	{"organization_self_hosted_runners", readWrite},
	{"organization_user_blocking", readWrite},
	{"packages", readWrite},
	{"pages", readWrite},
	{"profile", writeOnly},
	{"pull_requests", readWrite},
	{"repository_advisories", readWrite},
	{"repository_custom_properties", readWrite},
	{"repository_hooks", readWrite},
	{"repository_projects", readWriteAdmin},
	{"secret_scanning_alerts", readWrite},
	{"secrets", readWrite},
	{"security_events", readWrite},
	{"single_file", readWrite},
	{"starring", readWrite},
	{"statuses", readWrite},
	{"vulnerability_alerts", readWrite},
	{"workflows", writeOnly},
}

func permissionNamed(name string) (permission, bool) {
	for _, known := range permissions {
		if known.name == name {
			return known, true
		}
	}
	return permission{}, false
}

// takes reports whether the permission knows that level.
func (p permission) takes(level string) bool {
	for _, known := range strings.Fields(p.levels) {
		if known == level {
			return true
		}
	}
	return false
}

// rank orders levels; each includes those before. Unknown words have none, so
// they are never covered and cover nothing.
func rank(level string) int {
	switch level {
	case "read":
		return 1
	case "write":
		return 2
	case "admin":
		return 3
	}
	return 0
}

// implied: GitHub adds metadata: read to every token that reaches a repository
// ("Permissions required for GitHub Apps"). It comes with any scope here.
func implied(name, level string) bool { return name == "metadata" && level == "read" }

// ofRepositories reports whether the permission is one over repositories, not
// over an organization, an enterprise or a user.
func ofRepositories(name string) bool {
	switch name {
	case "custom_properties_for_organizations", "email_addresses", "followers", "git_ssh_keys", "gpg_keys",
		"interaction_limits", "members", "profile", "starring":
		return false
	}
	return !strings.HasPrefix(name, "organization_") && !strings.HasPrefix(name, "enterprise_")
}

// nearestPermission is what the writer of an unknown name most likely meant, or "".
func nearestPermission(word string) string {
	names := make([]string, len(permissions))
	for i, known := range permissions {
		names[i] = known.name
	}
	return yamlfile.Nearest(strings.NewReplacer("-", "_", " ", "_").Replace(word), names)
}
