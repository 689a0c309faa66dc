//go:build tools

// Package tools pins the version of the peer that is built from this module.
package tools

import (
	_ "github.com/google/trillian/cmd/trillian_log_server"
	_ "github.com/google/trillian/cmd/trillian_log_signer"
)
