package exec_test

import (
	"testing"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/exec"
)

// An editor that refuses what the exchange takes is believed.
func FuzzTheSchemaRefusesNothingThatIsTaken(f *testing.F) {
	backendtest.FuzzSchema(f, exec.New(exec.Options{}),
		`{"program":"tokens"}`, `{"program":"tokens","parameters":{"area":"figures","can":["read","write"]}}`,
		`{"program":"t-0","parameters":{"a_1":"ß ${x}"}}`, `{"program":"tokens","parameters":{}}`,
	)
}

// It also takes expressions, and refuses what can never be.
func TestTheSchemaTakesExpressionsAndRefusesWhatCanNeverBe(t *testing.T) {
	backendtest.SchemaTakes(t, exec.New(exec.Options{}), map[string]bool{
		`{"program":"${inputs.program}","parameters":{"area":"${claims.ref}","can":["${inputs.can}"]}}`: true,
		`{"program":"Tokens"}`: false, `{"parameters":{}}`: false, `{"program":"t","command":["/bin/sh"]}`: false,
		`{"program":"t","parameters":{"a":[]}}`: false, `{"program":"t","parameters":{"a":7}}`: false, `{"program":"t","parameters":{"A":"a"}}`: false,
	})
}
