package yamlfile

import (
	"errors"
	"strings"
	"testing"
)

func TestACollectorTellsAllFaultsInTheOrderOfTheFile(t *testing.T) {
	root, err := Parse("task.yaml", []byte("b: [1]\na: {}\nc: text\n"))
	if err != nil {
		t.Fatal(err)
	}
	var c Collector
	if text, ok := c.Text(root.Get("c")); !ok || text != "text" || c.Any() || c.Err() != nil {
		t.Errorf("%q, %v, %v", text, ok, c.Err())
	}
	c.Add(nil)
	if c.Any() {
		t.Error("no error is no fault")
	}
	c.Refuse(root.Get("a"), "the second")
	if _, ok := c.Text(root.Get("b")); ok || !c.Any() {
		t.Error("a list is no text")
	}
	faults := Faults(c.Err())
	if len(faults) != 2 || faults[0].Line != 1 || faults[1].Line != 2 || !strings.Contains(faults[1].Message, "the second") {
		t.Errorf("%v", c.Err())
	}
}

// Whatever was added, a block with it is not taken.
func TestACollectorLosesNoErrorThatHasNoPlace(t *testing.T) {
	var c Collector
	lost := errors.New("no place")
	c.Add(lost)
	if err := c.Err(); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
}
