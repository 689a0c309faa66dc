// Command registries is what no package has: a registry with a list of referrers, and a service that gives tokens for
// docker-registry.
//
//	registries serve -addr HOST:PORT
//	registries token -addr HOST:PORT -cert FILE -user NAME,NAME -password PASSWORD
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"flag"
	"io"
	"log"
	"math/big"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("registries serve|token")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	addr := flags.String("addr", "", "where to listen")
	cert := flags.String("cert", "", "where the certificate of the tokens goes")
	users := flags.String("user", "", "who may have tokens, separated by commas")
	password := flags.String("password", "", "the password of all of them")
	if err := flags.Parse(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
	var handler http.Handler
	switch os.Args[1] {
	case "serve":
		quiet := log.New(io.Discard, "", 0)
		handler = registry.New(registry.WithReferrersSupport(true), registry.Logger(quiet))
	case "token":
		handler = tokens(*cert, strings.Split(*users, ","), *password)
	default:
		log.Fatalf("%s is not known", os.Args[1])
	}
	server := http.Server{Addr: *addr, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// tokens gives what "Token Authentication Specification" describes; the key is in the certificate that each token brings.
func tokens(path string, users []string, password string) http.Handler {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "tokens"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	fail(err)
	fail(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))

	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, secret, ok := r.BasicAuth()
		if !ok || !slices.Contains(users, name) || secret != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="tokens"`)
			http.Error(w, "who asks?", http.StatusUnauthorized)
			return
		}
		granted := []access{}
		for _, scopes := range r.URL.Query()["scope"] {
			for _, scope := range strings.Fields(scopes) {
				if parts := strings.Split(scope, ":"); len(parts) == 3 {
					granted = append(granted, access{parts[0], parts[1], strings.Split(parts[2], ",")})
				}
			}
		}
		now := time.Now().Unix()
		encode := func(value any) string {
			text, err := json.Marshal(value)
			fail(err)
			return base64.RawURLEncoding.EncodeToString(text)
		}
		signed := encode(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(der)}}) +
			"." + encode(map[string]any{"iss": "tokens", "sub": name, "aud": r.URL.Query().Get("service"), "exp": now + 300,
			"nbf": now - 10, "iat": now, "jti": rand.Text(), "access": granted})
		digest := sha256.Sum256([]byte(signed))
		a, b, err := ecdsa.Sign(rand.Reader, key, digest[:])
		fail(err)
		signature := make([]byte, 64)
		a.FillBytes(signature[:32])
		b.FillBytes(signature[32:])
		token := signed + "." + base64.RawURLEncoding.EncodeToString(signature)
		w.Header().Set("Content-Type", "application/json")
		fail(json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300}))
	})
}

func fail(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
