package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
)

// objects are those of one run, in two namespaces of its own of an API server that all
// runs share. What a token can do, it can as long as they are there.
type objects struct{ *realserver.Kubernetes }

func startKubernetes(t *testing.T) func(*crashRun) outsider {
	t.Helper()
	k, err := realserver.StartKubernetes(t.Context(), t.TempDir())
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(*crashRun) outsider { return objects{k} }
}

func (k objects) configure(r *crashRun) (backend, credential string) {
	work, accounts := "web-"+r.owner(), "leases-"+r.owner()
	for _, name := range []string{work, accounts} {
		namespace := json.RawMessage(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"` + name + `"}}`)
		if err := k.Must(r.t.Context(), http.MethodPost, "/api/v1/namespaces", namespace, nil); err != nil {
			r.t.Fatal(err)
		}
	}
	account := json.RawMessage(`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"publisher"}}`)
	if err := k.Must(r.t.Context(), http.MethodPost, "/api/v1/namespaces/"+work+"/serviceaccounts", account, nil); err != nil {
		r.t.Fatal(err)
	}
	between := serveWeb(r.t, &web{passage: &r.outside.passage, to: forward(r, k.URL, k.HTTP.Transport), secure: true})
	write(r.t, r.dir, "exchange.token", []byte(k.Admin+"\n"))
	write(r.t, r.dir, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: between.Certificate().Raw}))
	gives := "rules: [{resources: [configmaps], verbs: [get]}]"
	if r.outside.form == "service_account" {
		gives = "service_account: publisher"
	}
	return fmt.Sprintf("kubernetes: {server: %q, ca_file: ca.pem, token_file: exchange.token, accounts_namespace: %s, namespaces: {%s: {rules: true, service_accounts: [publisher]}}}", between.URL, accounts, work),
		fmt.Sprintf("kubernetes: {namespace: %s, %s}", work, gives)
}

func (objects) use(*crashRun, *client.Grant) {}

func (k objects) alive(r *crashRun) map[string]string {
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/"
	work, accounts := "web-"+r.owner(), "leases-"+r.owner()
	alive := map[string]string{}
	for _, at := range []string{rbac + work + "/roles", rbac + work + "/rolebindings", "/api/v1/namespaces/" + accounts + "/serviceaccounts", "/api/v1/namespaces/" + work + "/secrets"} {
		var list struct {
			Items []struct {
				Metadata struct {
					Name string `json:"name"`
				} `json:"metadata"`
			} `json:"items"`
		}
		if err := k.Must(r.t.Context(), http.MethodGet, at, nil, &list); err != nil {
			r.t.Fatal(err)
		}
		for _, one := range list.Items {
			if id, of := strings.CutPrefix(one.Metadata.Name, "stepkey-lease-"); of {
				alive["lease_"+strings.ToUpper(id)] += at[strings.LastIndex(at, "/")+1:] + " "
			}
		}
	}
	return alive
}
