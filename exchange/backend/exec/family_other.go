//go:build !linux

package exec

import osexec "os/exec"

// family is a program alone: what it starts is its own to end, and a core is what the
// system makes of it.
type family struct{ cmd *osexec.Cmd }

func newFamily(cmd *osexec.Cmd) *family { return &family{cmd} }

func (f *family) kill() error { return f.cmd.Process.Kill() }

func (f *family) confine() error { return nil }

func (f *family) await() {}

func closeOnExec() error { return nil }
