// Package s3 is the backend for sessions of object storage: AWS S3, MinIO, and others that
// have AssumeRole.
//
// It hides how a task's block becomes a session policy, which can only take away from
// what the exchange's own account or role may do; how the kinds of server are asked for a
// session; and that one of them can end it and the others cannot.
//
// What a server does not offer, this backend cannot either. No session lives for less
// than 15 minutes by itself. MinIO ends one when each of its nodes is told to; AWS never
// does, so there it expires, and Terms says so.
package s3

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Config is the operator's, strictly decoded.
type Config struct {
	Kind          string   `yaml:"kind,required"`            // minio, aws or sts
	Endpoint      string   `yaml:"endpoint"`                 // https://minio.example.com:9000; for aws, one of STS in a private network
	Region        string   `yaml:"region"`                   // us-east-1 unless given; required for aws
	AccessKey     string   `yaml:"access_key,required"`      // of the exchange's own account
	SecretKeyFile string   `yaml:"secret_key_file,required"` // of that account; read at each request, so that it may be replaced
	Role          string   `yaml:"role"`                     // aws, sts: the ARN of the role whose sessions are given
	Buckets       []string `yaml:"buckets,required"`         // that tasks may name
	Listed        []string `yaml:"listed"`                   // minio, sts: buckets whose names of objects every task with list may see
	Nodes         []string `yaml:"nodes"`                    // minio: every node's own address, where endpoint stands for several
	CAFile        string   `yaml:"ca_file"`                  // PEM; the system's own unless given
	InsecureHTTP  bool     `yaml:"insecure_http"`            // lets endpoint be http:// to another machine

	SourceIdentity bool `yaml:"source_identity"` // aws: a session's source identity is its lease
}

// The kinds of server. Of one that is only known to have AssumeRole, kindSTS, the worst is
// believed: that it ends no session, and that a list shows more than the prefix.
const (
	kindMinIO = "minio"
	kindAWS   = "aws"
	kindSTS   = "sts"
)

// Open reads the files and makes the backend. It asks no network.
func (c Config) Open(now func() time.Time) (*Backend, error) {
	limits, err := c.Limits()
	if err != nil {
		return nil, err
	}
	o := Options{Limits: limits, Kind: c.Kind, Endpoint: c.Endpoint, Region: c.Region, AccessKey: c.AccessKey, Role: c.Role, Nodes: c.Nodes,
		SourceIdentity: c.SourceIdentity, InsecureHTTP: c.InsecureHTTP, Now: now}
	if err := o.check(); err != nil {
		return nil, err
	}
	var roots *x509.CertPool
	if c.CAFile != "" {
		if roots, _, err = reach.Roots(c.CAFile); err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
	}
	o.SecretKey = func() (secret.String, error) { return reach.Token(c.SecretKeyFile, "secret key") }
	if _, err := o.SecretKey(); err != nil {
		return nil, fmt.Errorf("secret_key_file: %w", err)
	}
	o.Transport = reach.Transport(roots)
	return New(o), nil
}

// Limits checks what the configuration says of tasks. It reads no file.
func (c Config) Limits() (Limits, error) {
	if c.Kind != kindMinIO && c.Kind != kindAWS && c.Kind != kindSTS {
		return Limits{}, fmt.Errorf("kind: %s is none; want minio, aws or sts", yamlfile.Quote(c.Kind))
	}
	if len(c.Buckets) == 0 {
		return Limits{}, errors.New("buckets: name those that tasks may use, as [backups]")
	}
	for _, name := range c.Buckets {
		if why := bucketFault(name); why != "" {
			return Limits{}, fmt.Errorf("buckets: %s is none: %s", yamlfile.Quote(name), why)
		}
	}
	l := Limits{Buckets: slices.Clone(c.Buckets), Expires: c.Kind != kindMinIO}
	for _, name := range c.Listed {
		switch {
		case c.Kind == kindAWS:
			return Limits{}, errors.New("listed: AWS keeps a task that lists to its prefix; take it out")
		case !slices.Contains(c.Buckets, name):
			return Limits{}, fmt.Errorf("listed: %s is none of buckets", yamlfile.Quote(name))
		}
	}
	if c.Kind != kindAWS {
		l.Listed = append([]string{}, c.Listed...)
	}
	return l, nil
}

// Limits are what tasks may ask for, and what is true of every session. Nil Buckets limit
// nothing: task files are also checked where no configuration is at hand.
type Limits struct {
	Buckets []string
	Listed  []string // where a task with list sees every name; nil: it sees those of its prefix alone
	Expires bool     // sessions cannot be revoked
}

// Options are what New needs: what Config says, opened.
type Options struct {
	Limits
	Kind      string
	Endpoint  string
	Region    string
	AccessKey string
	SecretKey func() (secret.String, error) // asked at each request
	Role      string
	Nodes     []string          // default Endpoint
	Transport http.RoundTripper // default one of its own
	Now       func() time.Time

	SourceIdentity bool // a session's source identity is its lease
	InsecureHTTP   bool // Endpoint may be http:// to another machine
}

// A region of AWS is part of its servers' names; those of others are words of their own.
var (
	validRegion    = regexp.MustCompile(`\A[\w-]{1,64}\z`)
	regionOfAWS    = regexp.MustCompile(`\A[a-z]{2,}(-[a-z]+)+-[0-9]\z`)
	validAccessKey = regexp.MustCompile(`\A[!-~]{3,128}\z`)
	validRole      = regexp.MustCompile(`\Aarn:[a-z][a-z-]*:[!-~]{1,512}\z`)
	roleOfAWS      = regexp.MustCompile(`\Aarn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}\z`)
)

func (o Options) check() error {
	if o.Endpoint != "" {
		if err := checkEndpoint(o.Endpoint, o.InsecureHTTP); err != nil {
			return fmt.Errorf("endpoint: %w", err)
		}
	}
	for _, node := range o.Nodes {
		if err := checkEndpoint(node, o.InsecureHTTP); err != nil {
			return fmt.Errorf("nodes: %s: %w", yamlfile.Quote(node), err)
		}
	}
	of := o.checkOthers
	switch o.Kind {
	case kindMinIO:
		of = o.checkMinIO
	case kindAWS:
		of = o.checkAWS
	}
	if err := of(); err != nil {
		return err
	}
	switch {
	case o.Kind != kindAWS && o.SourceIdentity:
		return errors.New("source_identity: only AWS is known to have one; take it out")
	case o.Kind != kindMinIO && len(o.Nodes) > 0:
		return fmt.Errorf("nodes: %s has none that could be asked; take it out", strings.ToUpper(o.Kind))
	case o.Region != "" && !validRegion.MatchString(o.Region):
		return fmt.Errorf("region: %s is none; want up to 64 letters, digits, - and _", yamlfile.Quote(o.Region))
	case !validAccessKey.MatchString(o.AccessKey):
		return fmt.Errorf("access_key: %s is none", yamlfile.Quote(o.AccessKey))
	}
	return nil
}

func (o Options) checkMinIO() error {
	switch {
	case o.Endpoint == "":
		return errors.New("endpoint: say where MinIO is, as https://minio.example.com:9000")
	case o.Role != "":
		return errors.New("role: MinIO has none; a session's account is the one of access_key")
	}
	return nil
}

func (o Options) checkAWS() error {
	switch {
	case o.Region == "":
		return errors.New("region: say which, as eu-central-1; sessions are asked for there")
	case !regionOfAWS.MatchString(o.Region):
		return fmt.Errorf("region: %s is none of AWS; want one as eu-central-1", yamlfile.Quote(o.Region))
	case !roleOfAWS.MatchString(o.Role):
		return fmt.Errorf("role: %s is none; want the ARN of the role whose sessions are given, as arn:aws:iam::123456789012:role/stepkey-backups", yamlfile.Quote(o.Role))
	case o.Endpoint == "" && domains[o.partition()] == "":
		return fmt.Errorf("endpoint: say where STS of %s is", o.partition())
	}
	return nil
}

func (o Options) checkOthers() error {
	switch {
	case o.Endpoint == "":
		return errors.New("endpoint: say where the server is, as https://storage.example.com")
	case !validRole.MatchString(o.Role):
		return fmt.Errorf("role: %s is none; want the ARN of the role whose sessions are given, as arn:aws:iam:::role/stepkey-backups", yamlfile.Quote(o.Role))
	}
	return nil
}

// domains of STS, by the partition of AWS that a role is of.
var domains = map[string]string{"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}

// partition is what the names of all resources begin with, arn:aws: but for a few countries.
func (o Options) partition() string {
	if part := strings.SplitN(o.Role, ":", 3); len(part) == 3 {
		return part[1]
	}
	return "aws"
}

func checkEndpoint(text string, insecure bool) error {
	err := reach.CheckAddress(text, "https://minio.example.com:9000", insecure)
	if errors.Is(err, reach.ErrPlain) {
		return fmt.Errorf("%w; or say insecure_http: true, on a network that only you are on", err)
	}
	return err
}

// Backend gives sessions of object storage. Safe for concurrent use.
type Backend struct {
	limits    Limits
	kind      string
	endpoint  string // of objects, as steps get it; empty: AWS's own
	sts       string // of sessions
	region    string
	accessKey string
	secretKey func() (secret.String, error)
	role      string
	source    bool // a session's source identity is its lease
	partition string
	nodes     []string // each keeps sessions in a memory of its own
	signer    *v4.Signer
	http      *http.Client
	now       func() time.Time
}

var _ backend.Backend = (*Backend)(nil)

// New makes a backend. It asks no network. Without a SecretKey it can only read task
// files.
func New(o Options) *Backend {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	b := &Backend{
		limits: o.Limits, kind: o.Kind, endpoint: strings.TrimSuffix(o.Endpoint, "/"), region: o.Region,
		accessKey: o.AccessKey, secretKey: o.SecretKey, role: o.Role, source: o.SourceIdentity, partition: o.partition(), signer: v4.NewSigner(), now: o.Now,
		http: reach.Client(o.Transport),
	}
	for _, node := range o.Nodes {
		b.nodes = append(b.nodes, strings.TrimSuffix(node, "/"))
	}
	if len(b.nodes) == 0 {
		b.nodes = []string{b.endpoint}
	}
	b.sts = b.endpoint
	if b.kind == kindAWS {
		b.endpoint = ""
	}
	if b.sts == "" {
		b.sts = "https://sts." + b.region + "." + domains[b.partition]
	}
	return b
}

const (
	// inFlight is how long after the lease's intent a session may be asked for and made.
	// Issue keeps it, so that Terms is true.
	inFlight = 30 * time.Second
	// shortest is what servers give at the least.
	shortest = 15 * time.Minute
	// longestAWS is what a role of AWS can be set to.
	longestAWS = 12 * time.Hour
)

// life is how long a session is asked to live: to the lease's end, if it is made at the
// last moment, and never for less than servers give.
func life(o backend.Order) time.Duration {
	return max(shortest, o.Until.Sub(o.At)-inFlight).Truncate(time.Second)
}

// Terms: a session lives for as long as was asked for, by the server's clock and from its
// making.
func (b *Backend) Terms(o backend.Order) backend.Terms {
	return backend.Terms{DiesAt: o.At.Add(inFlight + life(o)), Revocable: !b.limits.Expires}
}

// Lifetimes is what the linter of task files holds a task's ttl against: a backup may take
// its time.
func (b *Backend) Lifetimes() (sensible, longest time.Duration) {
	if b.limits.Expires {
		return time.Hour, longestAWS
	}
	return time.Hour, 0
}
