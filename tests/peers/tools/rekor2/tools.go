//go:build tools

// Package tools pins the version of the peer that is built from this module.
package tools

import _ "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix"
