// Command timestamp-server is the server of Sigstore's timestamp authority with a key and a chain from files. Its own
// command also serves figures, on a fixed port of every interface: two cannot run on one machine.
//
//	timestamp-server -port PORT -key FILE -chain FILE
package main

import (
	"flag"
	"log"
	"time"

	"github.com/sigstore/timestamp-authority/v2/pkg/server"
	"github.com/spf13/viper"
)

func main() {
	port := flag.Int("port", 0, "where to listen on 127.0.0.1")
	key := flag.String("key", "", "the key, PKCS #8 in PEM")
	chain := flag.String("chain", "", "its certificate and those above it in PEM")
	flag.Parse()
	for name, value := range map[string]any{
		"timestamp-signer":         "file",
		"timestamp-signer-hash":    "sha256",
		"file-signer-key-path":     *key,
		"file-signer-passwd":       "",
		"certificate-chain-path":   *chain,
		"enforce-intermediate-eku": true,
		"default-policy-oid":       "1.3.6.1.4.1.57264.2",
		"accepted-policy-oids":     []string{"1.3.6.1.4.1.57264.2"},
		"max-request-body-size":    uint64(1 << 20),
	} {
		viper.Set(name, value)
	}
	served := server.NewRestAPIServer("127.0.0.1", *port, []string{"http"}, false, 10*time.Second, 10*time.Second)
	served.CleanupTimeout = time.Second
	log.Fatal(served.Serve())
}
