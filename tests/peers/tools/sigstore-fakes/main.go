// Command sigstore-fakes is what stands around a Sigstore instance: who gives identity tokens, and a certificate
// transparency log. Everything listens where it is told to and has throw-away keys.
//
//	sigstore-fakes serve -dir FOLDER -gitlab ADDR -github ADDR -mail ADDR -ctlog ADDR
//	sigstore-fakes token -dir FOLDER -iss URL [-aud NAME] [-for DURATION] [-claims FILE] [NAME=VALUE …]
//
// FOLDER gets the keys: `issuer.pem` of all issuers, `ctlog.pem` and its public half `ctlog.pub`. `FOLDER/github.json` has
// the claims of the tokens that the GitHub-shaped issuer gives to who brings the password of FOLDER/github.password.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"log"
	"maps"
	"math/big"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("sigstore-fakes serve|token")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	dir := flags.String("dir", "", "where the keys are")
	gitlab := flags.String("gitlab", "", "where the GitLab-shaped issuer listens")
	github := flags.String("github", "", "where the GitHub-shaped issuer listens")
	mail := flags.String("mail", "", "where the issuer of people listens")
	ctlog := flags.String("ctlog", "", "where the certificate transparency log listens")
	iss := flags.String("iss", "", "the token's issuer")
	aud := flags.String("aud", "sigstore", "the token's audience")
	valid := flags.Duration("for", 10*time.Minute, "how long the token is valid; negative: how long it has not been")
	claims := flags.String("claims", "", "a JSON object of claims")
	fail(flags.Parse(os.Args[2:]))
	switch os.Args[1] {
	case "serve":
		issuing := key(filepath.Join(*dir, "issuer.pem"), func() (crypto.Signer, error) {
			return rsa.GenerateKey(rand.Reader, 2048)
		}).(*rsa.PrivateKey)
		go listen(*gitlab, issuer(issuing, *gitlab, ""))
		go listen(*github, issuer(issuing, *github, *dir))
		go listen(*mail, issuer(issuing, *mail, ""))
		listen(*ctlog, transparency(filepath.Join(*dir, "ctlog")))
	case "token":
		issuing := key(filepath.Join(*dir, "issuer.pem"), nil).(*rsa.PrivateKey)
		said := map[string]any{}
		if *claims != "" {
			read(*claims, &said)
		}
		for _, one := range flags.Args() {
			name, value, ok := strings.Cut(one, "=")
			if !ok {
				log.Fatalf("%s is not NAME=VALUE", one)
			}
			switch value {
			case "true", "false":
				said[name] = value == "true"
			default:
				said[name] = value
			}
		}
		fmt.Println(token(issuing, *iss, *aud, *valid, said))
	default:
		log.Fatalf("%s is not known", os.Args[1])
	}
}

func fail(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func read(path string, into any) {
	bytes, err := os.ReadFile(path)
	fail(err)
	fail(json.Unmarshal(bytes, into))
}

func listen(addr string, handler http.Handler) {
	server := http.Server{Addr: addr, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// key is the one of the file, or a new one that is written there.
func key(path string, generate func() (crypto.Signer, error)) crypto.Signer {
	if text, err := os.ReadFile(path); err == nil || generate == nil {
		fail(err)
		block, _ := pem.Decode(text)
		if block == nil {
			log.Fatalf("%s is no PEM", path)
		}
		found, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		fail(err)
		return found.(crypto.Signer)
	}
	made, err := generate()
	fail(err)
	der, err := x509.MarshalPKCS8PrivateKey(made)
	fail(err)
	fail(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return made
}

func public(of crypto.Signer) []byte {
	der, err := x509.MarshalPKIXPublicKey(of.Public())
	fail(err)
	return der
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Print(err)
	}
}

func name(of *rsa.PrivateKey) string {
	digest := sha256.Sum256(public(of))
	return base64.RawURLEncoding.EncodeToString(digest[:8])
}

// issuer answers what "OpenID Connect Discovery 1.0" asks for. With a folder it also gives tokens as GitHub's runners get
// them: `GET /token?audience=NAME` with a bearer password.
func issuer(signing *rsa.PrivateKey, addr, dir string) http.Handler {
	url := "http://" + addr
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": url, "jwks_uri": url + "/keys",
			"authorization_endpoint": url + "/auth", "token_endpoint": url + "/auth/token",
			"device_authorization_endpoint":         url + "/auth/device",
			"code_challenge_methods_supported":      []string{"S256"},
			"response_types_supported":              []string{"code", "id_token"},
			"subject_types_supported":               []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		encode := base64.RawURLEncoding.EncodeToString
		answer(w, map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": name(signing),
			"n": encode(signing.N.Bytes()), "e": encode(big.NewInt(int64(signing.E)).Bytes()),
		}}})
	})
	logins(mux, signing, url)
	if dir != "" {
		mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
			password, err := os.ReadFile(filepath.Join(dir, "github.password"))
			if err != nil || r.Header.Get("Authorization") != "Bearer "+strings.TrimSpace(string(password)) {
				http.Error(w, "who asks?", http.StatusUnauthorized)
				return
			}
			claims := map[string]any{}
			read(filepath.Join(dir, "github.json"), &claims)
			answer(w, map[string]any{"value": token(signing, url, r.URL.Query().Get("audience"), 10*time.Minute, claims)})
		})
	}
	return mux
}

// logins lets everybody in at once, as one person: with a browser (RFC 6749, 4.1), or with a code (RFC 8628), which is
// pending when it is asked for the first time. Who asks must prove to be who began (RFC 7636).
func logins(mux *http.ServeMux, signing *rsa.PrivateKey, url string) {
	type login struct {
		client, challenge, nonce, redirect string
		pending                            bool
	}
	var lock sync.Mutex
	waiting := map[string]login{}
	begin := func(r *http.Request, pending bool) (string, bool) {
		fail(r.ParseForm())
		said := r.Form.Get
		code := rand.Text()
		lock.Lock()
		defer lock.Unlock()
		waiting[code] = login{said("client_id"), said("code_challenge"), said("nonce"), said("redirect_uri"), pending}
		return code, said("code_challenge_method") == "S256" && strings.Contains(said("scope"), "openid")
	}
	refuse := func(w http.ResponseWriter, what string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		answer(w, map[string]string{"error": what})
	}
	mux.HandleFunc("GET /auth", func(w http.ResponseWriter, r *http.Request) {
		code, good := begin(r, false)
		if !good || r.Form.Get("response_type") != "code" {
			refuse(w, "invalid_request")
			return
		}
		back := neturl.Values{"code": {code}, "state": {r.Form.Get("state")}}
		http.Redirect(w, r, r.Form.Get("redirect_uri")+"?"+back.Encode(), http.StatusSeeOther)
	})
	mux.HandleFunc("POST /auth/device", func(w http.ResponseWriter, r *http.Request) {
		code, good := begin(r, true)
		if !good {
			refuse(w, "invalid_request")
			return
		}
		answer(w, map[string]any{"device_code": code, "user_code": "ABCD-EFGH", "verification_uri": url + "/device",
			"verification_uri_complete": url + "/device?user_code=ABCD-EFGH", "expires_in": 300, "interval": 1})
	})
	mux.HandleFunc("POST /auth/token", func(w http.ResponseWriter, r *http.Request) {
		fail(r.ParseForm())
		said := r.PostForm.Get
		code := said("code") + said("device_code")
		lock.Lock()
		defer lock.Unlock()
		one, known := waiting[code]
		proof := sha256.Sum256([]byte(said("code_verifier")))
		bound := one.challenge == base64.RawURLEncoding.EncodeToString(proof[:])
		if !known || !bound || (said("device_code") == "" && one.redirect != said("redirect_uri")) {
			refuse(w, "invalid_grant")
			return
		}
		if one.pending {
			one.pending = false
			waiting[code] = one
			refuse(w, "authorization_pending")
			return
		}
		delete(waiting, code)
		claims := map[string]any{"sub": "1", "email": "ann@example.com", "email_verified": true}
		if one.nonce != "" {
			claims["nonce"] = one.nonce
		}
		answer(w, map[string]any{"id_token": token(signing, url, one.client, 10*time.Minute, claims),
			"access_token": "none", "token_type": "Bearer", "expires_in": 600})
	})
}

// token is an RS256 JWT; the claims that it is given cannot change who issues it, for whom and when.
func token(signing *rsa.PrivateKey, iss, aud string, valid time.Duration, claims map[string]any) string {
	all := maps.Clone(claims)
	begin := time.Now().Add(-5 * time.Second)
	end := time.Now().Add(valid)
	if end.Before(begin) {
		begin = end.Add(-10 * time.Minute)
	}
	all["iss"], all["aud"] = iss, aud
	all["iat"], all["nbf"], all["exp"] = begin.Unix(), begin.Unix(), end.Unix()
	encode := func(value any) string {
		text, err := json.Marshal(value)
		fail(err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := encode(map[string]string{"alg": "RS256", "typ": "JWT", "kid": name(signing)}) + "." + encode(all)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, signing, crypto.SHA256, digest[:])
	fail(err)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// transparency answers `add-chain` and `add-pre-chain` of RFC 6962, 4.1 and 4.2. It keeps no tree: who checks a
// certificate looks at the signature of the timestamp alone.
func transparency(path string) http.Handler {
	signing := key(path+".pem", func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
	der := public(signing)
	fail(os.WriteFile(path+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644))
	id := sha256.Sum256(der)
	add := func(kind ct.LogEntryType) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			promise, err := timestamp(signing, id, kind, r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			answer(w, promise)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /log/ct/v1/add-chain", add(ct.X509LogEntryType))
	mux.HandleFunc("POST /log/ct/v1/add-pre-chain", add(ct.PrecertLogEntryType))
	mux.HandleFunc("GET /", func(http.ResponseWriter, *http.Request) {})
	return mux
}

func timestamp(signing crypto.Signer, id [32]byte, kind ct.LogEntryType, r *http.Request) (*ct.AddChainResponse, error) {
	var asked ct.AddChainRequest
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return nil, err
	}
	var chain []*ctx509.Certificate
	for _, der := range asked.Chain {
		certificate, err := ctx509.ParseCertificate(der)
		if ctx509.IsFatal(err) {
			return nil, err
		}
		chain = append(chain, certificate)
	}
	now := uint64(time.Now().UnixMilli())
	leaf, err := ct.MerkleTreeLeafFromChain(chain, kind, now)
	if err != nil {
		return nil, err
	}
	promise := ct.SignedCertificateTimestamp{SCTVersion: ct.V1, LogID: ct.LogID{KeyID: id}, Timestamp: now}
	signed, err := ct.SerializeSCTSignatureInput(promise, ct.LogEntry{Leaf: *leaf})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(signed)
	signature, err := signing.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	bytes, err := tls.Marshal(tls.DigitallySigned{
		Algorithm: tls.SignatureAndHashAlgorithm{Hash: tls.SHA256, Signature: tls.ECDSA},
		Signature: signature,
	})
	if err != nil {
		return nil, err
	}
	return &ct.AddChainResponse{SCTVersion: ct.V1, ID: id[:], Timestamp: now, Signature: bytes}, nil
}
