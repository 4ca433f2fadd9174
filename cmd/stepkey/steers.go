package main

import (
	"slices"
	"strings"
)

// A family is all variables whose names begin or end so, but for some that credentials
// travel in.
type family struct {
	prefix, suffix string
	but            []string
}

// steering are the families that are not for an exchange to set: it gives credentials.
// What programs run, what they load and how a job goes on are no part of one. New members
// come with each release of such a program, which is why whole families stand here.
var steering = []family{
	// The job's own machinery, and ours.
	{prefix: "ACTIONS_"}, {prefix: "INPUT_"}, {prefix: "RUNNER_"}, {prefix: "STATE_"}, {prefix: "STEPKEY_"},
	{prefix: "GITHUB_", but: []string{"GITHUB_TOKEN"}},
	// The loader, and shells.
	{prefix: "LD_"}, {prefix: "DYLD_"}, {prefix: "GLIBC_"}, {prefix: "BASH"},
	// git: how it reaches others, and by GIT_CONFIG_ all of its configuration.
	{prefix: "GIT_", but: []string{"GIT_USERNAME", "GIT_PASSWORD", "GIT_TOKEN", "GIT_SSL_CERT", "GIT_SSL_KEY"}},
	// Interpreters and what fetches code for them.
	{prefix: "PERL"}, {prefix: "PYTHON"}, {prefix: "LUA_"}, {prefix: "DOTNET_"}, {prefix: "CORECLR_"}, {prefix: "NPM_CONFIG_"},
	{prefix: "NODE_", but: []string{"NODE_AUTH_TOKEN"}},
	// Programs that others start for people, and flags that others read beside their own.
	{suffix: "PAGER"}, {suffix: "EDITOR"}, {suffix: "BROWSER"}, {suffix: "ASKPASS"}, {suffix: "_RSH"}, {suffix: "OPTS"}, {suffix: "FLAGS"},
}

// steeringAlone are those that no family has.
var steeringAlone = []string{
	"PATH", "HOME", "SHELL", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS",
	"ENV", "IFS", "CDPATH", "FPATH", "GLOBIGNORE", "PROMPT_COMMAND", "PS0", "PS1", "PS2", "PS3", "PS4", "ZDOTDIR",
	"RUBYOPT", "RUBYLIB", "RUBYPATH", "RUBYSHELL", "GEM_HOME", "GEM_PATH", "BUNDLE_GEMFILE", "PHPRC", "PHP_INI_SCAN_DIR",
	"CLASSPATH", "JAVA_HOME", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "AWKPATH", "AWKLIBPATH",
	"GCONV_PATH", "LOCPATH", "NLSPATH", "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES",
	"MAKEFILES", "LESSOPEN", "LESSCLOSE", "VISUAL", "SVN_SSH", "CC", "CXX", "RUSTC", "RUSTC_WRAPPER",
}

// steers reports whether a variable decides what programs run, or how a job goes on. Some
// programs take such names in small letters, too.
func steers(variable string) bool {
	name := strings.ToUpper(variable)
	of := func(f family) bool {
		return strings.HasPrefix(name, f.prefix) && strings.HasSuffix(name, f.suffix) && !slices.Contains(f.but, name)
	}
	return slices.ContainsFunc(steering, of) || slices.Contains(steeringAlone, name)
}
