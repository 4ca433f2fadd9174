package githubsim

import "strings"

// Levels that a permission can have, by its name. From the schema of
// POST /app/installations/{id}/access_tokens (2026-09-09) and the four names
// that exist although that schema lacks them.
const (
	readWrite      = "read write"
	readWriteAdmin = "read write admin"
	readOnly       = "read"
	writeOnly      = "write"
)

// rank orders levels: each includes those before it.
var rank = map[string]int{"read": 1, "write": 2, "admin": 3}

// levelsOf gives the levels that a permission knows, "" for an unknown name.
func levelsOf(name string) string {
	switch name {
	case "repository_projects", "organization_projects",
		"organization_custom_properties", "enterprise_custom_properties_for_organizations":
		return readWriteAdmin
	case "organization_events", "organization_plan":
		return readOnly
	case "workflows", "profile":
		return writeOnly
	}
	if strings.Contains(plainNames, " "+name+" ") && name != "" {
		return readWrite
	}
	return ""
}

const plainNames = " " +
	"actions actions_variables administration artifact_metadata attestations checks code_quality " +
	"codespaces codespaces_secrets contents custom_properties_for_organizations dependabot_secrets " +
	"deployments discussions email_addresses environments followers git_ssh_keys gpg_keys " +
	"interaction_limits issues members merge_queues metadata packages pages pull_requests " +
	"repository_advisories repository_custom_properties repository_hooks secret_scanning_alerts " +
	"secrets security_events single_file starring statuses vulnerability_alerts " +
	"organization_actions_variables organization_administration organization_announcement_banners " +
	"organization_copilot_agent_settings organization_copilot_seat_management " +
	"organization_custom_org_roles organization_custom_roles organization_hooks organization_packages " +
	"organization_personal_access_token_requests organization_personal_access_tokens " +
	"organization_secrets organization_self_hosted_runners organization_user_blocking "

// knownLevel reports whether GitHub knows the name and that level of it.
func knownLevel(name, level string) bool {
	return level != "" && !strings.Contains(level, " ") &&
		strings.Contains(" "+levelsOf(name)+" ", " "+level+" ")
}

// onRepositories reports whether a permission is one over repositories, which
// bring metadata: read with them.
func onRepositories(name string) bool {
	if strings.HasPrefix(name, "organization_") || strings.HasPrefix(name, "enterprise_") {
		return false
	}
	switch name {
	case "custom_properties_for_organizations", "email_addresses", "followers", "git_ssh_keys",
		"gpg_keys", "interaction_limits", "members", "profile", "starring":
		return false
	}
	return true
}

// withMetadata is a copy of asked, with metadata: read when any permission over
// repositories is in it. For Apps GitHub documents that; that the answer to a
// token request shows it is assumed.
func withMetadata(asked map[string]string) map[string]string {
	all := make(map[string]string, len(asked)+1)
	for name, level := range asked {
		all[name] = level
		if onRepositories(name) && all["metadata"] == "" {
			all["metadata"] = "read"
		}
	}
	return all
}

func includes(held map[string]string, name, level string) bool {
	return rank[held[name]] >= rank[level]
}
