package s3

import "github.com/stepkey/stepkey/exchange/backend"

// BlockSchema is what Scope reads, as a JSON Schema (draft 2020-12), for editors. It
// refuses nothing that Scope takes, before or after expressions are filled in. Which
// buckets there are, only the configuration says.
func (*Backend) BlockSchema() map[string]any {
	return backend.Described("A session of object storage for one prefix of one bucket.", backend.SchemaOf[block](keySchema))
}

// keySchema has nothing for a key that it does not know; a test looks for those.
func keySchema(key string) any {
	switch key {
	case "bucket":
		return backend.Described("The bucket, one of those in the configuration.", backend.OrFilled(backend.Matching(validBucket)))
	case "prefix":
		return backend.Described("What the keys of the task's objects begin with. It ends with /.", backend.OrFilled(backend.Matching(validPrefix)))
	case "actions":
		return backend.Described("What may be done with the objects there.", map[string]any{
			"type": "array", "minItems": 1, "uniqueItems": true, "items": backend.OrFilled(map[string]any{"enum": actionNames}),
		})
	}
	return nil
}
