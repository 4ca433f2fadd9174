package main

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/exchange/server"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// octoSTSConfig lets clients of octo-sts ask for the tasks that it lists.
type octoSTSConfig struct {
	Audience string         `yaml:"audience,required"` // the host that those clients ask for tokens with, and its port if it has one
	Tasks    []octoSTSTasks `yaml:"tasks,required"`
}

type octoSTSTasks struct {
	Scope    string        `yaml:"scope,required"`
	Identity string        `yaml:"identity,required"`
	Task     yamlfile.Node `yaml:"task,required"`
}

var hostAlone = regexp.MustCompile(`\A[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?\z`)

func (c config) checkOctoSTS(node yamlfile.Node) error {
	if c.OctoSTS == nil {
		return nil
	}
	at := node.Get("octo_sts")
	switch {
	case !hostAlone.MatchString(c.OctoSTS.Audience):
		return at.Get("audience").Errorf("audience is what these clients ask for: the host of the service alone, as sts.example.com, or with its port")
	case !c.Backends.Get("github").Exists():
		return at.Errorf("clients of octo-sts take GitHub's tokens alone, and the backend github is not configured")
	case len(c.OctoSTS.Tasks) == 0:
		return at.Get("tasks").Errorf("no task is listed, so that nobody would be answered; list them, or leave octo_sts out")
	}
	listed := map[server.OctoIdentity]bool{}
	for n, item := range at.Get("tasks").Items() {
		t := c.OctoSTS.Tasks[n]
		key, err := server.NewOctoIdentity(t.Scope, t.Identity)
		if err != nil {
			return item.Errorf("%v", err)
		}
		if listed[key] {
			return item.Errorf("scope %s and identity %s are listed twice", yamlfile.Quote(t.Scope), yamlfile.Quote(t.Identity))
		}
		listed[key] = true
	}
	return nil
}

// openOctoSTS makes the door for clients of octo-sts: the same exchange, for tokens
// that are made for another audience. nil: there is none.
func (c config) openOctoSTS(v *identity.Verifier, x *exchange.Exchange) (*server.OctoSTS, error) {
	if c.OctoSTS == nil {
		return nil, nil
	}
	other, err := v.For(c.OctoSTS.Audience)
	if err != nil {
		return nil, fmt.Errorf("reading octo_sts in %s: %w", c.file, err)
	}
	listed, err := c.octoSTSTasks(x.Policy())
	if err != nil {
		return nil, err
	}
	return &server.OctoSTS{Exchange: x.For(other), Tasks: listed}, nil
}

// octoSTSTasks are the tasks that are listed for clients of octo-sts, if all of them are
// there and can be given to such clients.
func (c config) octoSTSTasks(set *policy.Set) (map[server.OctoIdentity]string, error) {
	if c.OctoSTS == nil {
		return nil, nil
	}
	tasks := map[string]policy.Task{}
	for _, t := range set.Tasks() {
		tasks[t.Name] = t
	}
	listed := map[server.OctoIdentity]string{}
	for _, t := range c.OctoSTS.Tasks {
		var name string
		if err := t.Task.Decode(&name); err != nil {
			return nil, err
		}
		task, there := tasks[name]
		needs := slices.IndexFunc(task.Inputs, func(i policy.Input) bool { return i.Required })
		switch {
		case !there:
			return nil, t.Task.Errorf("there is no task %s in %s", yamlfile.Quote(name), c.Tasks)
		case task.Backend != "github":
			return nil, t.Task.Errorf("task %s gives a credential of the backend %s, and clients of octo-sts take GitHub's tokens alone", name, task.Backend)
		case task.Bind != "":
			return nil, t.Task.Errorf("task %s takes only tokens that are bound to the request (bind: %s), and clients of octo-sts cannot bind", name, task.Bind)
		case needs >= 0:
			return nil, t.Task.Errorf("task %s needs the input %s, and clients of octo-sts give none", name, task.Inputs[needs].Name)
		}
		key, err := server.NewOctoIdentity(t.Scope, t.Identity)
		if err != nil {
			return nil, err
		}
		listed[key] = name
	}
	return listed, nil
}
