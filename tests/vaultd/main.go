// Command vaultd runs a real HashiCorp Vault core (1.13, MPL-2.0) in memory on one loopback address, for tests.
//
// It prints one JSON line {"addr", "root_token", "unseal_key"} once it listens. Secret engines: kv (v1 and v2) and
// transit, to be mounted over the API as usual. Auth methods: token, approle, cert, jwt, userpass. Audit device: file.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	log "github.com/hashicorp/go-hclog"
	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/audit"
	auditfile "github.com/hashicorp/vault/builtin/audit/file"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"

	"crypto/tls"
	"crypto/x509"
)

var engines = map[string]logical.Factory{"kv": kv.Factory, "transit": transit.Factory}

var auths = map[string]logical.Factory{
	"approle": approle.Factory, "cert": cert.Factory, "jwt": jwt.Factory, "userpass": userpass.Factory,
}

var audits = map[string]audit.Factory{"file": auditfile.Factory}

// registry tells the plugin catalog which engines and auth methods are built in.
type registry struct{}

func (registry) table(kind consts.PluginType) map[string]logical.Factory {
	switch kind {
	case consts.PluginTypeSecrets:
		return engines
	case consts.PluginTypeCredential:
		return auths
	}
	return nil
}

func (r registry) Contains(name string, kind consts.PluginType) bool {
	_, ok := r.table(kind)[name]
	return ok
}

func (r registry) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	f, ok := r.table(kind)[name]
	return func() (interface{}, error) { return f, nil }, ok
}

func (r registry) Keys(kind consts.PluginType) []string {
	var names []string
	for name := range r.table(kind) {
		names = append(names, name)
	}
	return names
}

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "loopback address to listen on; port 0 takes a free one")
	sealed := flag.Bool("sealed", false, "leave it initialised but sealed")
	certFile := flag.String("tls-cert", "", "serve HTTPS with this certificate (PEM)")
	keyFile := flag.String("tls-key", "", "and this private key (PEM)")
	clientCA := flag.String("tls-client-ca", "", "ask for client certificates signed by this CA (PEM)")
	verbose := flag.Bool("v", false, "log what Vault logs")
	flag.Parse()
	if err := run(*addr, *sealed, *certFile, *keyFile, *clientCA, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "vaultd:", err)
		os.Exit(1)
	}
}

func run(addr string, sealed bool, certFile, keyFile, clientCA string, verbose bool) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	level := log.Error
	if verbose {
		level = log.Info
	}
	logger := log.New(&log.LoggerOptions{Level: level, Output: os.Stderr})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return err
	}
	scheme := "http://"
	if certFile != "" {
		scheme = "https://"
	}
	url := scheme + listener.Addr().String()
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: storage, DisableMlock: true, Logger: logger, RedirectAddr: url, BuiltinRegistry: registry{},
		LogicalBackends: engines, CredentialBackends: auths, AuditBackends: audits,
		DefaultLeaseTTL: time.Hour, MaxLeaseTTL: 24 * time.Hour,
	})
	if err != nil {
		return err
	}
	one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(context.Background(), &vault.InitParams{BarrierConfig: one, RecoveryConfig: one})
	if err != nil {
		return err
	}
	if !sealed {
		if _, err := core.Unseal(made.SecretShares[0]); err != nil {
			return err
		}
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})
	ready := map[string]string{
		"addr": url, "root_token": made.RootToken, "unseal_key": hex.EncodeToString(made.SecretShares[0]),
	}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	server := &http.Server{Handler: handler}
	if certFile == "" {
		return server.Serve(listener)
	}
	if clientCA != "" {
		pem, err := os.ReadFile(clientCA)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		server.TLSConfig = &tls.Config{ClientAuth: tls.RequestClientCert, ClientCAs: pool}
	}
	return server.ServeTLS(listener, certFile, keyFile)
}
