package vault_test

import (
	"testing"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/vault"
)

// An editor that refuses what the exchange takes is believed.
func FuzzTheSchemaRefusesNothingThatIsTaken(f *testing.F) {
	backendtest.FuzzSchema(f, vault.New(vault.Options{}),
		`{"policies":["deploy-web"]}`, `{"policies":["a","b/c.d_e"],"role":"stepkey","uses":5}`, `{"policies":["a"],"uses":10000}`,
	)
}

// It also takes expressions, and refuses what can never be.
func TestTheSchemaTakesExpressionsAndRefusesWhatCanNeverBe(t *testing.T) {
	backendtest.SchemaTakes(t, vault.New(vault.Options{}), map[string]bool{
		`{"policies":["web-${inputs.stage}"],"role":"${inputs.role}","uses":3}`: true,
		`{"policies":[]}`: false, `{"policies":["ROOT"]}`: false, `{"role":"a"}`: false, `{"policies":["a"],"uses":0}`: false,
		`{"policies":["a"],"ttl":"5m"}`: false, `{"policies":["a","a"]}`: false, `{"policies":["a"],"role":"a/b"}`: false,
	})
}
