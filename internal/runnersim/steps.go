package runnersim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// half is one half of a step, about to run.
type half struct {
	planStep
	phase     Phase
	condition string
	action    *action
	inputs    map[string]string
	stepEnv   map[string]string
	state     map[string]string // what the main half saved
}

// key names a half in file names.
func (h half) key() string { return fmt.Sprintf("%02d-%s", h.number, h.phase) }

// prepareActions reads and builds the actions of other repositories before the first
// step. Those of the workspace ("./") exist only after the checkout.
func (j *jobRun) prepareActions(ctx context.Context) error {
	for _, s := range j.plan.steps {
		if s.uses == "" || isCheckout(s.uses) || strings.HasPrefix(s.uses, "./") {
			continue
		}
		if _, err := j.actionOf(ctx, s.uses); err != nil {
			return err
		}
	}
	return nil
}

func (j *jobRun) actionOf(ctx context.Context, uses string) (*action, error) {
	if a, ok := j.actions[uses]; ok {
		return a, nil
	}
	dir, err := j.resolve(uses)
	if err != nil {
		return nil, err
	}
	a, err := readAction(dir)
	if err != nil {
		return nil, err
	}
	if j.options.Mode == Docker {
		if a.image, err = BuildImage(ctx, Image{Dir: a.dir, Dockerfile: a.Runs.Image, Tag: imageTag(uses), Args: j.options.BuildArgs}); err != nil {
			return nil, err
		}
	}
	j.actions[uses] = a
	return a, nil
}

// runSteps runs every main half, then the registered post halves in reverse order.
func (j *jobRun) runSteps(ctx context.Context) error {
	wanted, err := j.contexts().holds(j.plan.condition, status{})
	if err != nil || !wanted {
		j.skipped = !wanted
		return err
	}
	if j.plan.timeout > 0 {
		j.expiry = j.options.After(j.plan.timeout)
	}
	for _, s := range j.plan.steps {
		h := half{planStep: s, phase: Main, condition: s.condition}
		if err := j.runHalf(ctx, h); err != nil {
			return j.alive(err)
		}
	}
	for _, h := range slices.Backward(j.posts) {
		if err := j.runHalf(ctx, h); err != nil {
			return j.alive(err)
		}
	}
	return nil
}

// alive turns the runner's own death into an ordinary end of the job.
func (j *jobRun) alive(err error) error {
	if errors.Is(err, errDied) {
		j.died = true
		return nil
	}
	return err
}

func (j *jobRun) runHalf(ctx context.Context, h half) error {
	step := Step{Number: h.number, ID: h.id, Name: h.title(), Phase: h.phase, Started: j.options.Now(), Outputs: map[string]string{}, State: map[string]string{}}
	j.notify(step, false)
	if j.dead(ctx) {
		return errDied
	}
	err := j.perform(ctx, &h, &step)
	step.Log = j.log.takeStep()
	step.Ended = j.options.Now()
	if errors.Is(err, errDied) {
		step.Conclusion = Lost
	}
	j.steps = append(j.steps, step)
	if err != nil {
		return err
	}
	j.settle(h, step)
	j.notify(step, true)
	return nil
}

func (j *jobRun) notify(s Step, done bool) {
	if j.job.Watch != nil {
		j.job.Watch(Moment{Number: s.Number, ID: s.ID, Name: s.Name, Phase: s.Phase, Done: done, Conclusion: s.Conclusion})
	}
}

func (j *jobRun) dead(ctx context.Context) bool { return ctx.Err() != nil || closed(j.job.Die) }

// perform runs a half unless its condition says no. A fault in the workflow's
// expressions ends the whole run with an error, so that no test passes by accident.
func (j *jobRun) perform(ctx context.Context, h *half, step *Step) error {
	wanted, err := j.wanted(h)
	if err != nil {
		return fmt.Errorf("step %q: %w", h.name, err)
	}
	if !wanted {
		step.Conclusion = Skipped
		return nil
	}
	if h.phase == Main {
		if err := j.evaluateMain(ctx, h); err != nil {
			return fmt.Errorf("step %q: %w", h.name, err)
		}
	}
	files, err := j.openFileCommands(*h)
	if err != nil {
		return err
	}
	out := &console{log: j.log, step: step}
	end, err := j.invokeHalf(ctx, *h, files, out)
	out.flush()
	if err != nil {
		return err
	}
	step.ExitCode = end.exit
	step.Conclusion = end.conclusion
	if err := j.closeFileCommands(files, out); err != nil {
		step.Conclusion = Failure
		out.annotate("error", "", err.Error())
	}
	if out.refused {
		step.Conclusion = Failure
	}
	if h.phase == Main && h.action != nil {
		j.handState(h.number, step.State)
	}
	return nil
}

// wanted evaluates a half's own variables, which its condition may name, and then the
// condition.
func (j *jobRun) wanted(h *half) (bool, error) {
	c := j.contexts()
	if h.phase == Main {
		var err error
		if h.stepEnv, err = j.evaluate(h.env, c); err != nil {
			return false, err
		}
	}
	c["env"] = object(merge(j.env, h.stepEnv))
	return c.holds(h.condition, j.status())
}

// evaluateMain works out a main half's script and inputs. Its post half, if it has
// one, is registered here, when main starts: it runs even if main then fails.
func (j *jobRun) evaluateMain(ctx context.Context, h *half) error {
	c := j.contexts()
	c["env"] = object(merge(j.env, h.stepEnv))
	var err error
	if h.script, err = c.interpolate(h.script); err != nil {
		return err
	}
	if h.directory, err = c.interpolate(h.directory); err != nil {
		return err
	}
	if h.uses == "" || isCheckout(h.uses) {
		return nil
	}
	if h.action, err = j.actionOf(ctx, h.uses); err != nil {
		return err
	}
	var unknown []string
	if h.inputs, unknown, err = h.action.inputs(h.with, c); err != nil {
		return err
	}
	if len(unknown) > 0 {
		j.log.printf("##[warning]Unexpected input(s) %s of %s", strings.Join(unknown, ", "), h.uses)
	}
	if h.action.entrypoint(Post) != "" {
		post := *h
		post.phase, post.condition = Post, or(h.action.Runs.PostIf, "always()")
		j.posts = append(j.posts, post)
	}
	return nil
}

// handState gives a post half what its main half saved.
func (j *jobRun) handState(number int, state map[string]string) {
	if j.options.DropState {
		return
	}
	for i := range j.posts {
		if j.posts[i].number == number {
			j.posts[i].state = state
		}
	}
}

// settle enters a half's end into the job. outcome is what happened, conclusion what
// counts after continue-on-error.
func (j *jobRun) settle(h half, step Step) {
	outcome, conclusion := step.Conclusion, step.Conclusion
	if conclusion == Failure && h.continueOnError && h.phase == Main {
		conclusion = Success
	}
	if conclusion == Failure {
		j.failed = true
	}
	if h.id != "" && h.phase == Main {
		j.outputs[h.id] = map[string]any{
			"outputs": object(step.Outputs), "outcome": string(outcome), "conclusion": string(conclusion),
		}
	}
}

// variables of a half, without those that depend on what it runs in.
func (j *jobRun) variables(h half, files fileCommands) map[string]string {
	env := merge(j.env, h.stepEnv, j.server, files.env())
	env["GITHUB_ACTION"] = or(h.id, "__step_"+strconv.Itoa(h.number))
	return env
}

func merge(blocks ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, b := range blocks {
		maps.Copy(all, b)
	}
	return all
}
