package registry

// LibtrustID, Encoding and KeySchema are for tests.
var (
	LibtrustID = libtrustID
	Encoding   = encoding
	KeySchema  = keySchema
)

// Block is what tests look for keys in.
type Block = block
