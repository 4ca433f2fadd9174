package kubernetes_test

import (
	"testing"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
)

func TestTheSchemaHasWordsForEveryKeyOfTheBlock(t *testing.T) {
	backendtest.SchemaHasWords(t, limited(), 5)
}

// An editor that refuses what the exchange takes is believed.
func FuzzTheSchemaRefusesNothingThatIsTaken(f *testing.F) {
	backendtest.FuzzSchema(f, kubernetes.New(kubernetes.Options{}),
		`{"namespace":"web","role":"deployer"}`, `{"namespace":"web","cluster_role":"system:view"}`, `{"namespace":"web","service_account":"a.b"}`,
		`{"namespace":"web","rules":[{"api_group":"apps","resources":["deployments","deployments/scale"],"names":["web"],"verbs":["get","patch"]}]}`,
	)
}

// It also takes expressions, and refuses what can never be.
func TestTheSchemaTakesExpressionsAndRefusesWhatCanNeverBe(t *testing.T) {
	backendtest.SchemaTakes(t, kubernetes.New(kubernetes.Options{}), map[string]bool{
		`{"namespace":"web-${inputs.stage}","role":"${inputs.role}"}`:                                            true,
		`{"namespace":"web","rules":[{"resources":["pods"],"names":["${inputs.app}"],"verbs":["${inputs.v}"]}]}`: true,
		`{"namespace":"web"}`: false, `{"role":"a"}`: false, `{"namespace":"web","role":"a","cluster_role":"b"}`: false, `{"namespace":"Web","role":"a"}`: false,
		`{"namespace":"web","rules":[]}`: false, `{"namespace":"web","rules":[{"resources":["*"],"verbs":["get"]}]}`: false,
		`{"namespace":"web","rules":[{"resources":["pods"],"verbs":["bind"]}]}`: false, `{"namespace":"web","rules":[{"verbs":["get"]}]}`: false,
		`{"namespace":"web","role":"a","ttl":"5m"}`: false,
	})
}
