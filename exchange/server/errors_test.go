package server

import (
	"testing"

	"github.com/stepkey/stepkey/exchange"
)

// A kind of refusal without words of its own would be answered with none, and at the door
// of octo-sts as a fault of ours.
func TestEveryKindOfRefusalHasItsWordsAtBothDoors(t *testing.T) {
	for kind := exchange.Fault; kind <= exchange.GaveUp; kind++ {
		here, there := said[kind], octoSays[kind]
		if here.status == 0 || here.text == "" || here.code == "" {
			t.Errorf("kind %d has no words", kind)
		}
		if kind != exchange.Fault && there.status == 0 {
			t.Errorf("kind %d has no status for octo-sts: %q", kind, here.text)
		}
		if (here.status == 503) != (there.status == 503) || (here.status == 503) != (here.retry > 0) {
			t.Errorf("kind %d is %d at one door, %d at the other, to be tried again after %d s", kind, here.status, there.status, here.retry)
		}
	}
}
