package github

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/githubapp"
)

// classify turns a failed call into the backend's terms: what is certain, whether
// waiting helps, and what people can do.
func classify(err error, hint string, nothingDone bool) error {
	if err == nil {
		return nil
	}
	var answer *githubapp.Error
	known := errors.As(err, &answer)
	if hint != "" {
		err = fmt.Errorf("%w; %s", err, hint)
	}
	if known && answer.Temporary() {
		err = fmt.Errorf("%w; %w", err, backend.ErrUnavailable)
	}
	if nothingDone || known && answer.NothingDone() {
		return fmt.Errorf("%w; %w", err, backend.ErrNotCreated)
	}
	return err
}

// explain is classify for the creation of a token.
func explain(err error, want *scope, at githubapp.Installation) error {
	return classify(err, createHint(err, want, at), false)
}

func createHint(err error, want *scope, at githubapp.Installation) string {
	var answer *githubapp.Error
	if !errors.As(err, &answer) {
		return ""
	}
	switch {
	case answer.Status == http.StatusUnauthorized:
		return "compare client_id and private_key with the App's settings, and this machine's clock"
	case answer.Status == http.StatusForbidden && strings.Contains(strings.ToLower(answer.Message), "suspended"):
		return fmt.Sprintf("the App's installation on %s is suspended; whoever suspended it can lift that at %s", at.Account, page(at))
	case answer.Status == http.StatusNotFound:
		return fmt.Sprintf("the App's installation on %s is gone; install the App again", at.Account)
	case answer.Status == http.StatusUnprocessableEntity:
		return unprocessableHint(want, at)
	case !answer.NothingDone():
		return "a token may have been made that nobody can name or revoke; it dies an hour after its making"
	}
	return ""
}

func unprocessableHint(want *scope, at githubapp.Installation) string {
	if lacking := want.lacking(at.Permissions); len(at.Permissions) > 0 && len(lacking) > 0 {
		return fmt.Sprintf("the App lacks %s on %s: add it in the App's settings, then accept it at %s",
			strings.Join(lacking, ", "), at.Account, page(at))
	}
	return fmt.Sprintf("a repository of the task is not in the App's installation on %s: add it at %s; one task reaches the repositories of one owner",
		at.Account, page(at))
}

func lookupHint(err error, first repository) string {
	var answer *githubapp.Error
	if !errors.As(err, &answer) {
		return ""
	}
	switch answer.Status {
	case http.StatusNotFound:
		if strings.Contains(answer.Message, "Integration not found") {
			return "there is no App with this client_id on this GitHub"
		}
		return fmt.Sprintf("the App is not installed on %s, or there is no such repository: install the App, or add the repository, at %s",
			first, settings(first.owner))
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		return "the repository was renamed or transferred; name it as it is called now, or by repository_ids, which stay the same"
	case http.StatusUnauthorized:
		return "compare client_id and private_key with the App's settings, and this machine's clock"
	}
	return ""
}

// page is where an installation is changed; GitHub's answer knows the address.
func page(at githubapp.Installation) string {
	if at.Page != "" {
		return at.Page
	}
	return settings(at.Account)
}

// settings is the path of an organization's installations. For a user's they
// stand at /settings/installations.
func settings(owner string) string {
	if owner == "" {
		return "the owner's Settings, GitHub Apps (/organizations/OWNER/settings/installations)"
	}
	return fmt.Sprintf("/organizations/%s/settings/installations (of a user: /settings/installations)", owner)
}
