package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// A Repository keeps task files of its own. Its id says which one it is; the names are
// those that it has now.
type Repository struct {
	ID          int64
	Owner, Name string
}

func (r Repository) String() string { return r.Owner + "/" + r.Name }

// ownScope is a scope that can tell whether it stays within one repository: that all it
// reaches is the repository with this id or, where a name decides, the one that has this
// name, and nothing beside repositories.
type ownScope interface {
	OnlyRepository(id int64, owner, name string) bool
}

// Own are the tasks of one repository, as its owner wrote them: they are named
// owner/name:task, and can give access to that repository and to nothing else. Immutable,
// safe for concurrent use.
type Own struct {
	of  Repository
	set *Set
}

// Broken: the task files of a repository are refused, all of them, with the faults of
// each as *yamlfile.Error. Its words are for the audit log and the task's owners.
type Broken struct {
	Repository string
	Err        error
}

// Error names the first faults with their places, in one line.
func (e *Broken) Error() string {
	said := []string{}
	faults := yamlfile.Faults(e.Err)
	for i, f := range faults {
		if i == faultsSaid {
			said = append(said, fmt.Sprintf("and %d more", len(faults)-i))
			break
		}
		said = append(said, fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message))
	}
	if len(faults) == 0 {
		said = append(said, e.Err.Error())
	}
	return fmt.Sprintf("the task files of %s are refused: %s", e.Repository, strings.Join(said, "; "))
}

func (e *Broken) Unwrap() error { return e.Err }

const faultsSaid = 3

// LoadOwn reads the task files of a repository, by their names, as Load does. What it
// can give is what c.Backends can, so those should be few. The error is a *Broken.
func LoadOwn(files map[string][]byte, of Repository, c Check) (*Own, error) {
	set, err := Load(memory(files), c)
	own := &Own{of: of, set: set}
	if err == nil {
		err = own.lookAround(files)
	}
	if err != nil {
		return nil, &Broken{of.String(), err}
	}
	return own, nil
}

// lookAround refuses what reaches beyond the repository, with its place. Where the scope
// depends on who asks, only Authorize can tell.
func (o *Own) lookAround(files map[string][]byte) error {
	var faults []error
	for _, t := range o.set.Tasks() {
		why := o.within(t.Scope)
		if t.Templated || why == "" {
			continue
		}
		root, err := yamlfile.Parse(t.File, files[t.File])
		if err != nil {
			return err
		}
		faults = append(faults, root.Get("credential", t.Backend).Errorf("%s", why))
	}
	return errors.Join(faults...)
}

// within says why a scope is none that the repository may give; of one that is, nothing.
func (o *Own) within(s backend.Scope) string {
	if able, can := s.(ownScope); can && able.OnlyRepository(o.of.ID, o.of.Owner, o.of.Name) {
		return ""
	}
	return fmt.Sprintf("a repository's own task files can give access to that repository alone: repository_ids: [%d], and permissions over repositories; this is %s", o.of.ID, s)
}

// Authorize is Set.Authorize for a task that is named owner/name:task, in the spelling
// that GitHub has: one task has one name, or its limits would not hold.
func (o *Own) Authorize(w identity.Workload, asked Asked) (Grant, error) {
	full := asked.Task
	task, named := strings.CutPrefix(full, o.of.String()+":")
	if !named {
		return Grant{}, fmt.Errorf("%w; its repository is spelled %s", &UnknownTask{Task: full}, o.of)
	}
	asked.Task = task
	grant, err := o.set.Authorize(w, asked)
	var denial *Denial
	var unknown *UnknownTask
	switch {
	case errors.As(err, &denial):
		denial.Task = full
	case errors.As(err, &unknown):
		unknown.Task = full
		if unknown.Near != "" {
			unknown.Near = o.of.String() + ":" + unknown.Near
		}
	}
	if err != nil {
		return Grant{}, err
	}
	if why := o.within(grant.Scope); why != "" {
		return Grant{}, &Broken{o.of.String(), fmt.Errorf("task %s as it was asked for: %s", yamlfile.Quote(task), why)}
	}
	grant.Task = full
	grant.Rule = o.of.String() + "/" + grant.Rule
	return grant, nil
}

// Has reports whether there is a task of that name, owner/name:task.
func (o *Own) Has(full string) bool {
	task, named := strings.CutPrefix(full, o.of.String()+":")
	return named && o.set.Has(task)
}

// Names lists the tasks, owner/name:task, sorted.
func (o *Own) Names() []string {
	var all []string
	for _, task := range o.set.Tasks() {
		all = append(all, o.of.String()+":"+task.Name)
	}
	return all
}

// Gone lists the tasks, owner/name:task, that o has and a later generation has not.
func (o *Own) Gone(later *Own) []string { return slices.DeleteFunc(o.Names(), later.Has) }

// RepositoryOf splits the name of a repository's own task; false where the task is one
// of the exchange's own folder.
func RepositoryOf(task string) (owner, repository string, own bool) {
	place, _, own := strings.Cut(task, ":")
	if !own {
		return "", "", false
	}
	owner, repository, own = strings.Cut(place, "/")
	return owner, repository, own
}
